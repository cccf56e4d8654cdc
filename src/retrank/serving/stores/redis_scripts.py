"""What must happen at once in Redis, in Lua. All keys of one call share a hash slot, so each runs on a Cluster too.

Scores are whole microseconds below 2**53 or small versions, which a double holds. Sets are ordered by score, then by
bytes, as everywhere; see `entries`.
"""

from hashlib import sha1
from typing import NamedTuple


class Script(NamedTuple):
    """A script and the name Redis gives it."""

    text: str
    sha: str


def _script(text: str) -> Script:
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


_TRIM = """
local function trim(key, ttl_ms, keep, after)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', after)
  redis.call('ZREMRANGEBYRANK', key, 0, -tonumber(keep) - 1)
  redis.call('PEXPIRE', key, ttl_ms)
end
local function fresh(ids, id, after)
  local at = redis.call('ZSCORE', ids, id)
  return not at or tonumber(at) <= tonumber(after)
end
"""

LINK = _script(
    _TRIM
    + """
-- Note under which sessions a person's new events will be kept: 1 for each event that may be.
-- KEYS ids, sessions; ARGV ttl_ms, ids_after, keep, after, then id, session, time of each event.
local ttl_ms, ids_after, keep, after = unpack(ARGV, 1, 4)
local met, linked = {}, {}
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', after)
for i = 5, #ARGV, 3 do
  local id, session, time = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local ok = 0
  if session ~= '' and not met[id] and tonumber(time) > tonumber(after) and fresh(KEYS[1], id, ids_after) then
    if redis.call('ZSCORE', KEYS[2], session) or redis.call('ZCARD', KEYS[2]) < tonumber(keep) then
      redis.call('ZADD', KEYS[2], 'GT', time, session)
      ok = 1
    end
  end
  met[id] = true
  linked[#linked + 1] = ok
end
redis.call('PEXPIRE', KEYS[2], ttl_ms)
return linked
"""
)

JOIN = _script(
    _TRIM
    + """
-- Keep events under a session. KEYS events; ARGV ttl_ms, keep, after, then time, member of each event.
local ttl_ms, keep, after = unpack(ARGV, 1, 3)
for i = 4, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
end
trim(KEYS[1], ttl_ms, keep, after)
"""
)

APPLY = _script(
    _TRIM
    + """
-- Apply a person's events, each at most once: 1 for each that was new.
-- KEYS ids, events, seen; ARGV now, ttl_ms, then keep, after of each key, then id, time, event, seen of each event.
local now, ttl_ms = ARGV[1], ARGV[2]
local flags = {}
for i = 9, #ARGV, 4 do
  local id, time = ARGV[i], ARGV[i + 1]
  if fresh(KEYS[1], id, ARGV[4]) then
    redis.call('ZADD', KEYS[1], now, id)
    redis.call('ZADD', KEYS[2], time, ARGV[i + 2])
    redis.call('ZADD', KEYS[3], 'GT', time, ARGV[i + 3])
    flags[#flags + 1] = 1
  else
    flags[#flags + 1] = 0
  end
end
for k = 1, 3 do
  trim(KEYS[k], ttl_ms, ARGV[1 + 2 * k], ARGV[2 + 2 * k])
end
return flags
"""
)

ERASE = _script("""
-- Forget a person: the number of entries. KEYS ids, events, seen, sessions.
local count = redis.call('ZCARD', KEYS[1]) + redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3])
redis.call('DEL', unpack(KEYS))
return count
""")

MARK_ERASED = _script("""
-- Leave word of who was erased, each under a number of its own. KEYS version, marks; ARGV keep, then tags.
for i = 2, #ARGV do
  local n = redis.call('INCR', KEYS[1])
  redis.call('ZADD', KEYS[2], n, n .. ':' .. ARGV[i])
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[1]) - 1)
""")

ERASED_SINCE = _script("""
-- Who was erased since a version: the newest version, and what is left of the marks. KEYS version, marks; ARGV after.
return {redis.call('GET', KEYS[1]) or '0', redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf')}
""")

CHANGE_ITEMS = _script("""
-- Store changes of items: the new version, or -1 when there would be too many.
-- KEYS version, order, state, attributes; ARGV max, then id, state, has_attributes, attributes of each change.
local met, count = {}, redis.call('ZCARD', KEYS[2])
for i = 2, #ARGV, 4 do
  if not met[ARGV[i]] and not redis.call('ZSCORE', KEYS[2], ARGV[i]) then
    met[ARGV[i]] = true
    count = count + 1
  end
end
if count > tonumber(ARGV[1]) then return -1 end
for i = 2, #ARGV, 4 do
  redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[1]), ARGV[i])
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] == '1' then redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 3]) end
end
return tonumber(redis.call('GET', KEYS[1]) or '0')
""")

ITEM_CHANGES = _script("""
-- The next changes after a version: id, version, state, attributes of each. KEYS as above; ARGV after, limit.
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
local found = {}
for i = 1, #rows, 2 do
  local state, attributes = redis.call('HGET', KEYS[3], rows[i]), redis.call('HGET', KEYS[4], rows[i])
  found[#found + 1] = {rows[i], rows[i + 1], state, attributes}
end
return found
""")

FORGET_CHANGES = _script("""
-- Drop some of the changes up to a version: how many. KEYS as above, forgotten; ARGV up_to, limit.
local version = tonumber(redis.call('GET', KEYS[1]) or '0')
local forgotten = tonumber(redis.call('GET', KEYS[5]) or '0')
redis.call('SET', KEYS[5], math.max(forgotten, math.min(version, tonumber(ARGV[1]))))
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
end
return #ids
""")

WRITE = _script("""
-- Replace a document if it still has the expected version. KEYS document; ARGV expected, value, until_ms or ''.
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if version ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', tostring(tonumber(version) + 1), 'value', ARGV[2])
if ARGV[3] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIREAT', KEYS[1], ARGV[3]) end
return 1
""")

BEAT = _script("""
-- Say that a replica is alive and forget those that are not. KEYS until, status; ARGV now, until, replica, status.
for _, replica in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])) do
  redis.call('ZREM', KEYS[1], replica)
  redis.call('HDEL', KEYS[2], replica)
end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
""")

BEATS = _script("""
-- Who is alive: replica, status of each. KEYS until, status; ARGV now.
local found = {}
for _, replica in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')) do
  found[#found + 1] = {replica, redis.call('HGET', KEYS[2], replica)}
end
return found
""")
