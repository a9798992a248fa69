#!/usr/bin/env bash
# What tests need from Debian: a browser that opens the reports they render. Where it cannot be
# installed, those tests say so and are skipped.
set -u
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "chromium is not installed: the tests that open reports in a browser will be skipped"
  exit 0
fi
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 ||
  echo "chromium could not be installed: the tests that open reports in a browser will be skipped"
exit 0
