#!/usr/bin/env bash
# aarch64.sh [CTEST OPTION...] - builds for 64-bit ARM on another machine and runs the unit
# and golden tests in emulation.
#
# The compiler and the emulator are packages of this machine.  The libraries of the other
# architecture are fetched by apt, with a state of its own, and unpacked into a folder below
# build/: what apt and dpkg know of this machine does not change.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
sysroot=$PWD/build/aarch64-sysroot
libraries=(libc6-dev linux-libc-dev libmicrohttpd-dev libyaml-dev libutf8proc-dev libsqlite3-dev
    libcmocka-dev libcurl4-openssl-dev libxxhash-dev libsodium-dev libyyjson-dev)

as_root=()
if [[ $EUID -ne 0 ]]; then
    as_root=(sudo)
fi
if ! command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null ||
    [[ $(command -v aarch64-linux-gnu-gcc qemu-aarch64 | wc -l) -ne 2 ]]; then
    "${as_root[@]}" apt-get install -qq -y gcc-aarch64-linux-gnu qemu-user >/dev/null
fi

# Makes the folder of libraries, in one step at the end.
make_sysroot() {
    local work=$sysroot.new
    rm -rf "$work"
    mkdir -p "$work"/apt/{lists,cache}/partial "$work/root"
    touch "$work/apt/status"
    cat >"$work/apt/conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Dir::State::status "$work/apt/status";
Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
Debug::NoLocking "true";
CONF
    echo "aarch64: fetching the libraries"
    APT_CONFIG=$work/apt/conf apt-get -qq update
    APT_CONFIG=$work/apt/conf apt-get -qq install --download-only -y "${libraries[@]}" >/dev/null
    local package
    for package in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    mv "$work/root" "$sysroot"
    rm -rf "$work"
}
if [[ ! -d $sysroot ]]; then
    make_sysroot
fi
tools/build.sh aarch64
exec ctest --test-dir build/aarch64 --parallel 2 --output-on-failure \
    --label-regex '^(unit|golden)$' "$@"
