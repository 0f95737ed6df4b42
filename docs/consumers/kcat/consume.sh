#!/usr/bin/env bash
# Prints each event of topics once: consume.sh TOPIC...
set -euo pipefail
brokers=${BROKERS:-localhost:9094}
group=${GROUP:-fhir-cdc-example}
seen=${SEEN:-seen.txt} # the ids of the events that were printed

# The id is in a header, else the value's member id.
line='((.headers // []) as $h | [range(0; $h | length; 2) | {($h[.]): $h[. + 1]}] | add // {}) as $header
  | "\(.topic)\t\($header.ce_id // $header.event_id // (.payload | fromjson | .id))\t\(.payload)"'

touch "$seen"
kcat -q -u -J -b "$brokers" -G "$group" -X isolation.level=read_committed -X auto.offset.reset=earliest "$@" |
  jq --unbuffered -r "$line" |
  while IFS=$'\t' read -r topic id value; do
    if ! grep -qxF -- "$id" "$seen"; then
      printf '%s\t%s\t%s\n' "$topic" "$id" "$value"
      echo "$id" >>"$seen"
    fi
  done
