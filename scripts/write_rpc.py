"""Write what protoc makes of the gRPC description, beside it; both are under version control.

    python scripts/write_rpc.py

A test makes it again and compares, so a change of the description is a change of these files as well.
"""

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

SOURCE = Path(__file__).parents[1] / "src"
PROTO = SOURCE / "retrank" / "serving" / "rpc" / "v1" / "recommender.proto"
MADE = ("recommender_pb2.py", "recommender_pb2.pyi", "recommender_pb2_grpc.py")


def write(folder: Path) -> int:
    """Write the modules below a folder, as packages lie below it; return the exit status of protoc."""
    outputs = [f"--{kind}_out={folder}" for kind in ("python", "pyi", "grpc_python")]
    known = str(files("grpc_tools") / "_proto")
    status: int = protoc.main(["protoc", f"-I{SOURCE}", f"-I{known}", *outputs, str(PROTO)])
    return status


if __name__ == "__main__":
    sys.exit(write(SOURCE))
