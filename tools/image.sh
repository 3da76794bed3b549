#!/usr/bin/env bash
# How the images install: `image.sh libraries PREFIX LOCK`, then `image.sh program PREFIX`, in the checkout's root.
# A test runs these very steps in a clean folder. Every download is checked against the lock's hashes; nothing is built
# from source but our own package.
set -euo pipefail

prefix="$2"
python="$prefix/bin/python"
uv_install() {
  "$prefix/bin/uv" pip install --quiet --no-cache --no-deps --compile-bytecode --python "$python" "$@"
}

case "$1" in
  libraries)
    python3 -m venv "$prefix"
    "$python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --only-binary :all: \
      --require-hashes --requirement locks/build.txt
    uv_install --only-binary :all: --require-hashes --requirement "$3"
    ;;
  program)
    uv_install --no-build-isolation --offline .
    # Bundles, weights and photographs lie beside the packages; the image's last layers bring them.
    packages="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    for folder in models weights data; do
      ln -s "$prefix/$folder" "$packages/$folder"
    done
    "$python" -m pip uninstall --quiet --yes --root-user-action ignore setuptools uv pip
    # Only now, so that nothing of the base took a locked package's place: TensorRT's bindings come with the base.
    sed -i 's/^include-system-site-packages = false$/include-system-site-packages = true/' "$prefix/pyvenv.cfg"
    ;;
  *)
    echo "usage: image.sh libraries PREFIX LOCK | image.sh program PREFIX" >&2
    exit 2
    ;;
esac
