#!/usr/bin/env bash
# Every verb has --help, which names exactly the options that its source parses; the README's commands and their options exist.
set -u
program=${BIFOCAL_PROGRAM:?path of the bifocal program}
cd "${BIFOCAL_SOURCE:-$(dirname "$0")/../..}" || exit 1
failed=0
complain() { echo "lint: $*"; failed=1; }
options_of_help() { "$program" "$@" --help | grep -oE '(^|[ [])--[a-z][a-z0-9-]*' | tr -d ' [' | sort -u; }
# Options in the source: a table inside bif_cmd_VERB, or rows that name their verbs behind the option (cmd_eval.c).
options_of_source() { # options_of_source VERB-WITH-UNDERSCORE NAME
  awk -v function_name="bif_cmd_$1(" -v verb="$2" '
    /^}/ { inside = 0 }
    /^[a-z].*\(.*\)$/ { inside = index($0, function_name) > 0 }
    match($0, /\{"[a-z0-9-]+", (no|required)_argument/) {
      split(substr($0, RSTART), part, "\"")
      if (inside && part[2] != "help") print "--" part[2]
      if (index($0, "{{\"") && index(" " part[4] " ", " " verb " ") && part[2] != "help") print "--" part[2]
    }' launch/cmd_*.c | sort -u
}
"$program" --help >/dev/null || complain "bifocal --help fails"
mapfile -t verbs < <("$program" --help | sed -nE 's/^  ([a-z-]+( [a-z-]+)?)  .*/\1/p')
[ ${#verbs[@]} -ge 10 ] || complain "bifocal --help names only ${#verbs[@]} verbs"
for verb in "${verbs[@]}"; do
  # shellcheck disable=SC2086
  "$program" $verb --help >/dev/null 2>&1 || complain "bifocal $verb --help fails"
  # shellcheck disable=SC2086
  helped=$(options_of_help $verb | grep -vx -- --help) parsed=$(options_of_source "$(tr " -" __ <<<"$verb")" "${verb##* }")
  [ -n "$parsed$helped" ] || [ "$verb" = "data verify" ] || complain "$verb: no options were found"
  [ "$helped" = "$parsed" ] || complain "bifocal $verb --help and its source differ: $(diff <(echo "$helped") <(echo "$parsed") | grep '^[<>]' | tr '\n' ' ')"
done
while IFS=: read -r file line text; do
  command=$(sed -E 's/.*\bbifocal ([a-z-]+( [a-z]+)?).*/\1/' <<<"$text")
  found=
  for verb in "${verbs[@]}"; do
    [[ "$command " == "$verb "* ]] && found=$verb
  done
  [ -n "$found" ] || { complain "$file:$line: '$command' is not a verb"; continue; }
  # shellcheck disable=SC2086
  known=$(options_of_help $found)
  for option in $(sed 's/.*\bbifocal //; s/#.*//' <<<"$text" | grep -oE -- '--[a-z][a-z0-9-]*'); do
    grep -qx -- "$option" <<<"$known" || complain "$file:$line: bifocal $found has no option $option"
  done
done < <(grep -HnE '(^|[&|;] *|-n [0-9]+ .*)bifocal [a-z]' README.md)
exit $failed
