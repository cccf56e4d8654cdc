# Read by every `bash -c` of a Ray container on Kubernetes (BASH_ENV names this file), so that KubeRay's own `ray start`,
# and the probes and hooks after it, run in the environment that retrank's ingress prepares: HAProxy, throughput flags, token.
# The first shell writes it to a file, the others read that: ports and folders must be the same for all of them.
# `retrank serve` has prepared everything itself, which RETRANK_SERVICE_DIR shows.
if [ -z "${RETRANK_SERVICE_DIR:-}" ]; then
  retrank_env="${RETRANK_ENV_FILE:-/tmp/retrank-ray-env}"
  if [ ! -s "$retrank_env" ]; then
    if python -m retrank.serving.ingress --cluster >"$retrank_env.$$"; then
      mv -n "$retrank_env.$$" "$retrank_env" # whoever is first stays
      rm -f "$retrank_env.$$"
    else
      rm -f "$retrank_env.$$"
      echo "ray-env.sh: the environment of the ingress could not be prepared; Ray would start without it" >&2
      exit 1
    fi
  fi
  . "$retrank_env"
fi
