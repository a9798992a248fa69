#!/usr/bin/env bash
# What tests need from Debian: a browser that opens the reports they render, and Slurm, on which a
# sweep is run. Where they cannot be installed, those tests say so and are skipped.
set -u
missing=()
command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
command -v slurmctld >/dev/null || missing+=(slurm-wlm munge)
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "not installed: ${missing[*]}: the tests that need them will be skipped"
  exit 0
fi
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
  echo "could not be installed: ${missing[*]}: the tests that need them will be skipped"
exit 0
