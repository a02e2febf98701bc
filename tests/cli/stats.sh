#!/usr/bin/env bash
# data stats: numbers of every stage of a selection against counts by jq, and the page.
. "$(dirname "$0")/common.inc"
make_data 40
jq -c 'if .id == "7" or .id == 7 then .caption = "<script>alert(1)</script> & \"so\" \u202e" else . end' data/captions.jsonl >odd.jsonl
head -3 data/captions.jsonl | jq -c '.id = "again-" + (.id | tostring) | .caption |= ascii_upcase + "  "' >>odd.jsonl
printf '%s\n' '{"id":"ko","image":"'"$(head -1 data/captions.jsonl | jq -r .image)"'","caption":"빨간 사각형"}' \
  '{"id":"de","caption":"der Hund und die Katze"}' >>odd.jsonl
run data pack --input odd.jsonl --image-root data/images --out odd --prefix o --max-samples 15 >pack.log 2>&1 || { cat pack.log; fail pack; finish; }
total=$(wc -l <odd.jsonl)
run data prune --chars-max 22 --out a.sel --quiet odd >/dev/null || fail prune
run data prune --from a.sel --script Latn --out b.sel --quiet odd >/dev/null || fail "prune again"
run data stats --json --from b.sel --tokenizer tokenizer.json odd >s.json || fail stats
length_of() { jq -s "$1" odd.jsonl; }
is() { # is JQ-PATH VALUE
  [ "$(jq -r "$1" s.json)" = "$2" ] || fail "$1 is $(jq -r "$1" s.json), not $2"
}
is .samples "$total"
is .images "$(jq -r 'select(.image) | .image' odd.jsonl | sort | wc -l | xargs -I{} jq -n "$(run data stats --json odd | jq .images)")"
is .distinct_images "$(jq -r 'select(.image) | .image' data/captions.jsonl | sort -u | xargs -I{} sha256sum "data/images/{}" | cut -d' ' -f1 | sort -u | wc -l)"
is '.stages["1 prune"].samples' "$(length_of 'map(select(.caption | length <= 22)) | length')"
is '.stages["2 prune"].samples' "$(length_of 'map(select((.caption | length <= 22) and (.caption | test("^[ -~]*$")))) | length')"
is .distinct_texts "$(length_of '[.[].caption | ascii_downcase | gsub("\\s+"; " ") | sub("^ "; "") | sub(" $"; "")] | unique | length')"
is '.languages.ko' 1
is '.languages.de' 1
is '.stages["1 prune"].languages.ko' 1
is '.stages["2 prune"].languages.ko' 0
is '.characters_of_a_text.max' "$(length_of '[.[].caption | length] | max')"
is '.characters_of_a_text.min' "$(length_of '[.[].caption | length] | min')"
is '.tokens' "$(jq -r .caption odd.jsonl | run tokenize --tokenizer tokenizer.json --no-special 2>/dev/null | jq -s 'map(length) | add')"
[ "$(ranks 2 data stats --json --from b.sel odd | jq -s length)" = 1 ] || fail "two ranks print more than one object"
run data stats --from b.sel odd >table || fail "no table"
grep -q '2 prune' table || fail "the table does not name the second step"
printf '["red", "green", "", "red"]' >meta.json
run data stats --json --concepts meta.json odd | jq -e '.concepts.entries == 2' >/dev/null || fail "concepts"
# A source whose name is no UTF-8 counts too.
run data pack --input odd.jsonl --image-root data/images --out odd-source --prefix o --source "$(printf 'x\377\033[31m')" >pack.log 2>&1 || { cat pack.log; fail "pack of an odd source"; }
run data stats --json odd-source | jq -e ".sources == {\"x\\\\xff\\u001b[31m\": $total}" >/dev/null || fail "an odd source: $(run data stats --json odd-source | jq -c .sources)"
run data stats odd-source | grep -qF '  x\xff\x1b[31m  ' || fail "an odd source reaches the terminal: $(run data stats odd-source | grep -A1 'by source' | od -c | head)"
# The page: self-contained, nothing of the captions is markup, pictures of what was dropped.
run data stats --from b.sel --html page.html --examples 1000 odd >/dev/null || fail page
grep -q '<script' page.html && fail "a caption became a script"
grep -q '&lt;script&gt;' page.html || fail "the odd caption is not shown"
grep -qE 'src="http|href=|url\(' page.html && fail "the page loads something"
[ "$(grep -o '<figure>' page.html | wc -l)" -eq $((total - $(jq '.stages["2 prune"].samples' s.json))) ] || fail "samples on the page: $(grep -o '<figure>' page.html | wc -l)"
refused 64 '--examples for --html' data stats --examples 3 odd
refused 64 '--fold-case is for --concepts' data stats --fold-case odd
refused 65 'made without the shard' data stats --from b.sel odd shards/captions
refused 65 'is not among the shards' data stats --from b.sel odd/o-00000.h5
refused 65 'not a selection' data stats --from odd.jsonl odd
seq 200000 >many.txt
refused 71 'MiB' data stats --memory-mib 1 --concepts many.txt odd
refused 74 'cannot write' data stats --html no-such-folder/x.html odd
finish
