#!/usr/bin/env bash
# Publishes this machine's load, memory and temperatures every second, as a sensor would:
#
#   site/<host>/load                  average over the last minute
#   site/<host>/memory/available      bytes
#   site/<host>/temperature/<sensor>  degrees Celsius, one topic for each thermal zone there is
#
# Options are those of `heliograph pub`, for example: machine_readings.sh -h 192.0.2.7 -u me -P secret
# One publisher for each reading: `pub -l` sends every line of its standard input as a message.
set -euo pipefail

cd "$(dirname "$0")/../.."
options=("$@")
host=$(uname -n)
trap 'kill $(jobs -p) 2>/dev/null' EXIT

load() { cut -d ' ' -f 1 /proc/loadavg; }
memory_available() { awk '/^MemAvailable:/ { printf "%.0f\n", $2 * 1024 }' /proc/meminfo; }
temperature() { awk '{ printf "%.1f\n", $1 / 1000 }' "$1/temp"; }

publish() { # publish TOPIC COMMAND...: the command's output, every second
    local topic=site/$host/$1
    shift
    while "$@" && sleep 1; do :; done | .venv/bin/heliograph pub -l -r -t "$topic" "${options[@]}"
}

publish load load &
publish memory/available memory_available &
for zone in /sys/class/thermal/thermal_zone*; do
    [ -r "$zone/temp" ] || continue
    publish "temperature/$(cat "$zone/type")" temperature "$zone" &
done
wait
