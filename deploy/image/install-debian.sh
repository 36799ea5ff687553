#!/bin/sh
# Installs Debian packages in a layer of the Containerfile and leaves nothing else behind: no lists, logs or archives.
# A build that may not reach Debian's own servers gives its sources as the secret apt.sources (one-line format).
set -eu

sources=/run/secrets/apt.sources
if [ -s "$sources" ]; then
    set -- -o Dir::Etc::sourcelist="$sources" -o Dir::Etc::sourceparts=- "$@"
    apt-get -qq -o Dir::Etc::sourcelist="$sources" -o Dir::Etc::sourceparts=- update
else
    apt-get -qq update
fi
DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "$@" >/dev/null
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
    /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/lib/dpkg/*-old
