"""Generates gen/ from proto/: messages, services and their type stubs. `make gen` runs it; CI wants an empty diff after it.

`buf/validate/validate.proto` is shipped by no package as a file; its descriptor is inside protovalidate's wheel, so protoc
gets it as a descriptor set. The http annotations come as files from googleapis-common-protos.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import google.api.annotations_pb2 as annotations
import grpc_tools
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GEN = ROOT / "gen"


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as work:
        validate = write_validate_descriptors(Path(work) / "validate.binpb")
        if options.image:
            write_image(options.image, validate)
        else:
            generate(validate)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--image", type=Path, help="write an image for `buf lint` and `buf breaking` instead of code"
    )
    return parser.parse_args()


def write_validate_descriptors(path: Path) -> Path:
    """Writes validate.proto and what it imports, without what protoc carries itself."""
    files = FileDescriptorSet()
    pool = ["google/protobuf/descriptor.proto", "google/protobuf/duration.proto"]
    pool += ["google/protobuf/timestamp.proto", "google/protobuf/field_mask.proto"]
    for name in pool:
        files.file.append(well_known(name))
    files.file.append(FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary()))
    path.write_bytes(files.SerializeToString())
    return path


def well_known(name: str) -> FileDescriptorProto:
    """The descriptor of one of protobuf's own files, from the copy that the runtime has."""
    from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2

    modules = (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2)
    file = next(m.DESCRIPTOR for m in modules if name == m.DESCRIPTOR.name)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


def generate(validate: Path) -> None:
    """Replaces gen/ whole, so that a removed message leaves nothing behind."""
    shutil.rmtree(GEN, ignore_errors=True)
    GEN.mkdir()
    sources = proto_sources()
    protoc(
        validate, [f"--python_out={GEN}", f"--mypy_out=quiet:{GEN}", *sources, "buf/validate/validate.proto"]
    )
    services = [name for name in sources if name.endswith("_service.proto")]
    protoc(validate, [f"--grpc_python_out={GEN}", f"--mypy_grpc_out=quiet,only_async:{GEN}", *services])


def write_image(path: Path, validate: Path) -> None:
    """Writes the image that buf reads: our files with comments, the imported ones too."""
    arguments = [
        "--include_source_info",
        "--include_imports",
        f"--descriptor_set_out={path}",
        *proto_sources(),
    ]
    protoc(validate, arguments)


def proto_sources() -> list[str]:
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def protoc(validate: Path, arguments: list[str]) -> None:
    bundled = Path(grpc_tools.__file__).parent / "_proto"
    annotations_root = Path(annotations.__file__).parents[2]
    paths = [f"-I{PROTO}", f"-I{annotations_root}", f"-I{bundled}", f"--descriptor_set_in={validate}"]
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    command = [sys.executable, "-m", "grpc_tools.protoc", *paths, *arguments]
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"protoc failed with {done.returncode}; its words stand above")


if __name__ == "__main__":
    main()
