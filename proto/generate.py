"""Generates gen/ from proto/: messages, services and their type stubs. `make gen` runs it; CI wants an empty diff after it.

`buf/validate/validate.proto` is shipped by no package as a file; its descriptor is inside protovalidate's wheel, so protoc
gets it as a descriptor set. The http annotations come as files from googleapis-common-protos.
"""

from __future__ import annotations

import argparse
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
        protoc = Protoc(options.proto.resolve(), validate)
        if options.image:
            write_image(protoc, options.image)
            return
        made = Path(work) / "gen"
        generate(protoc, made)
        replace(made, options.out)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--image", type=Path, help="write an image for `buf lint` and `buf breaking` instead of code"
    )
    parser.add_argument("--out", type=Path, default=GEN, help="where the code goes (default: gen/)")
    parser.add_argument("--proto", type=Path, default=PROTO, help="the contract's folder (default: proto/)")
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


class Protoc:
    """protoc over one folder of protos, with everything that they import at hand."""

    def __init__(self, proto: Path, validate: Path) -> None:
        bundled = Path(grpc_tools.__file__).parent / "_proto"
        annotations_root = Path(annotations.__file__).parents[2]
        self._paths = [
            f"-I{proto}",
            f"-I{annotations_root}",
            f"-I{bundled}",
            f"--descriptor_set_in={validate}",
        ]
        self.sources = sorted(str(path.relative_to(proto)) for path in proto.rglob("*.proto"))

    def run(self, arguments: list[str]) -> None:
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
        command = [sys.executable, "-m", "grpc_tools.protoc", *self._paths, *arguments]
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode != 0:
            raise SystemExit(f"protoc failed with {done.returncode}; its words stand above")


def generate(protoc: Protoc, out: Path) -> None:
    """Writes the modules, their stubs, and the descriptors with the comments that the modules leave out."""
    out.mkdir()
    messages = [*protoc.sources, "buf/validate/validate.proto"]
    protoc.run([f"--python_out={out}", f"--mypy_out=quiet:{out}", *messages])
    services = [name for name in protoc.sources if name.endswith("_service.proto")]
    protoc.run([f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet,only_async:{out}", *services])
    descriptors = out / "reco" / "descriptors.binpb"
    protoc.run(["--include_source_info", f"--descriptor_set_out={descriptors}", *protoc.sources])


def replace(made: Path, out: Path) -> None:
    """Makes `out` the same as `made`: nothing of a removed message stays, and what is right already is not touched."""
    wanted = {path.relative_to(made): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    for path in [path for path in out.rglob("*") if path.is_file() and path.suffix != ".pyc"]:
        if path.relative_to(out) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = out / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def write_image(protoc: Protoc, path: Path) -> None:
    """Writes the image that buf reads: our files with comments, the imported ones too."""
    protoc.run(
        ["--include_source_info", "--include_imports", f"--descriptor_set_out={path}", *protoc.sources]
    )


if __name__ == "__main__":
    main()
