#!/usr/bin/env bash
# Installs what bifocal is built with on Debian 12 or Ubuntu 24.04, if anything is missing. Usage: packages.sh [EXTRA PACKAGE...]
set -euo pipefail
wanted=(build-essential cmake ninja-build pkg-config libopenmpi-dev openmpi-bin libhdf5-dev libyaml-dev libjansson-dev libjpeg-dev
        libpng-dev libwebp-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev "$@")
missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
  echo "packages.sh: not root and no sudo; ask for these packages: ${missing[*]}" >&2
  exit 77
fi
echo "installing: ${missing[*]}" >&2
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
