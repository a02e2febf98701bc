#!/usr/bin/env bash
# data prune: the file is the same for any number of ranks and order of shards; planted noise is what is dropped; steps compose; wrong command lines.
. "$(dirname "$0")/common.inc"
"$tools/tool_fixture" data 60
# Noise: file names, other scripts, repetition, one caption many times; their numbers are known.
jq -c --argjson bad '{"3":"IMG_0003.jpg","7":"https://example.com/7","11":"Кошка сидит на окне","17":"사진 속의 고양이","19":"dog dog dog dog dog","23":"12345","29":""}' \
  '. + {caption: ($bad[.id] // (if (.id | tonumber) % 10 == 0 then "Same  caption" else "\(.caption) number n\(.id)" end))}' data/captions.jsonl >noisy.jsonl
run data pack --input noisy.jsonl --image-root data/images --out shards --prefix n --max-samples 13 >pack.log 2>&1 || { cat pack.log; fail "pack"; finish; }
rules="--image-side-min 17 --aspect-max 2 --chars-min 1 --script Latn --repetition-max 0.5 --file-names --max-same-caption 2"
run data prune --out one.sel $rules shards >one.txt || { fail "exit $?"; finish; }
run data prune --out json.sel $rules --json shards >one.json || fail "json: exit $?"
for n in 2 3; do
  ranks $n data prune --out $n.sel $rules shards >$n.txt 2>$n.log || { cat $n.log; fail "$n ranks: exit $?"; }
  cmp one.sel $n.sel || fail "$n ranks: another selection"
  diff one.txt $n.txt || fail "$n ranks: another table"
done
run data prune --out turned.sel $rules shards/n-00003.h5 shards/n-00000.h5 shards/n-00004.h5 shards/n-00001.h5 shards/n-00002.h5 >turned.txt || fail "turned: exit $?"
cmp one.sel turned.sel || fail "the order of the shards counts"
cmp one.sel json.sel || fail "--json changes the selection"
# What each rule alone drops, counted from the records.
jq -s 'map(.caption) as $c | {"chars-min": ($c | map(select(. == "")) | length), "script-min": 4, "repetition-max": 1, "file-names": 3,
  "max-same-caption": (($c | map(select(. == "Same  caption")) | length) - 2)}' noisy.jsonl >want.json
jq '[.rules[] | select(.rule | test("image|aspect") | not) | {(.rule): .alone}] | add' one.json >got.json
diff <(jq -S . want.json) <(jq -S . got.json) || fail "other counts"
jq -e '.before == 60 and .after == .before - ([.rules[].dropped] | add) and ([.rules[] | select(.dropped > .alone and .rule != "max-same-caption")] | length) == 0' one.json >/dev/null ||
  fail "the table does not add up: $(cat one.json)"
# Two steps are one after the other.
run data prune --out first.sel --image-side-min 17 --aspect-max 2 --chars-min 1 --script Latn shards >/dev/null || fail "first step"
run data prune --from first.sel --out second.sel --repetition-max 0.5 --file-names --max-same-caption 2 --json shards >second.json || fail "second step"
[ "$(jq .after second.json)" = "$(jq .after one.json)" ] || fail "two steps keep other numbers than one"
run data prune --out basic.sel --preset datacomp-basic --image-side-min 20 --json shards >basic.json || fail "preset"
jq -e '[.rules[] | [.rule, .limit]] == [["image-side-min", 20], ["aspect-max", 3], ["chars-min", 6], ["words-min", 3]]' basic.json >/dev/null ||
  fail "preset: $(jq -c .rules basic.json)"
run data prune --measure --json shards >measured.json || fail "measure"
jq -e '.scripts.Latn == 56 and .scripts.Hang == 1 and .scripts.Cyrl == 1 and .scripts.none == 2 and ([.measures[] | select(.measure == "caption words") | .samples] == [60])' \
  measured.json >/dev/null || fail "scripts: $(jq -c .scripts measured.json)"
run data prune --measure shards >measured.txt || fail "measure"
for n in 3; do
  ranks $n data prune --measure shards >measured.$n 2>/dev/null
  diff measured.txt measured.$n || fail "measures depend on the ranks"
done
refused 64 "at least one rule" data prune --out x.sel shards
refused 64 "at least one rule" data prune --measure --out x.sel shards
refused 64 "or --measure alone" data prune --measure --chars-min 5 shards
refused 64 "at least one shard" data prune --out x.sel --chars-min 3
refused 64 "put --column NAME before it" data prune --out x.sel --top 0.3 shards
refused 64 "neither --min nor --max" data prune --out x.sel --column a shards
refused 64 "is no script" data prune --out x.sel --script Latin shards
refused 64 "--script-min without --script" data prune --out x.sel --script-min 0.5 shards
refused 64 "must be from 0 to 1" data prune --out x.sel --clip-top 30 shards
refused 64 "is unknown" data prune --out x.sel --preset laion shards
refused 64 "'a/b' is the name of no column" data prune --out x.sel --column a/b --min 1 shards
refused 64 "'../c' is the name of no column" data prune --out x.sel --caption-column ../c --chars-min 1 shards
refused 64 "'a/b' cannot name a column" data prune --out x.sel --clip a/b --clip-top 0.5 shards
refused 65 "bifocal data hash" data prune --out x.sel --undecodable shards
refused 65 "bifocal data embed" data prune --out x.sel --clip-top 0.3 shards
refused 74 "missing.h5" data prune --out x.sel --chars-min 3 missing.h5
run data prune --out part.sel --chars-min 1 shards/n-00000.h5 >/dev/null || fail "one shard"
refused 65 "" data prune --from part.sel --out x.sel --chars-min 3 shards
# Scores of another program, by id, by uid and in order; the top share is DataComp's.
jq -c '{id, value: ((.id | tonumber) * 7 % 60 / 60)}' data/captions.jsonl >scores.jsonl
echo '{"id":"of another set","value":1}' >>scores.jsonl
run data import-column liked --scores scores.jsonl shards 2>import.log || { cat import.log; fail "import: exit $?"; }
grep -q '60 of 60 rows' import.log && grep -q '1 of 61 lines name no sample' import.log || fail "import: $(cat import.log)"
run data prune --out liked.sel --column liked --min 0.5 --json shards >liked.json || fail "a column: exit $?"
[ "$(jq .after liked.json)" -eq "$(jq -s 'map(select(.value >= 0.5 and .id != "of another set")) | length' scores.jsonl)" ] || fail "a column: $(cat liked.json)"
run data prune --out top.sel --column liked --top 0.3 --json shards >top.json || fail "a top share: exit $?"
want=$(jq -s 'map(select(.id != "of another set").value) | (sort | reverse | .[18]) as $t | map(select(. >= $t)) | length' scores.jsonl) # int(60 x 0.3)
[ "$(jq .after top.json)" -eq "$want" ] || fail "a top share: $(cat top.json), not $want"
ranks 2 data prune --out top2.sel --column liked --top 0.3 shards >/dev/null 2>&1
cmp top.sel top2.sel || fail "a top share depends on the ranks"
run data why --json top.sel 3 shards >why.json || fail "why: exit $?"
grep -q 'liked not in the top share' why.json || fail "why: $(cat why.json)"
jq -c '{id, value: (if (.id | tonumber) % 2 == 0 then null else 1 end)} | select(.id != "5")' data/captions.jsonl >holes.jsonl
run data import-column holes --scores holes.jsonl shards 2>import.log && grep -q '29 of 60 rows' import.log || fail "holes: $(cat import.log)"
run data prune --out holes.sel --column holes --min 0 --json shards >holes.json && [ "$(jq .after holes.json)" -eq 29 ] || fail "rows without a number: $(cat holes.json)"
run data prune --out holes.sel --column holes --top 1 --json shards >holes.json && [ "$(jq .after holes.json)" -eq 29 ] || fail "a top share of 1: $(cat holes.json)"
mkdir same && cp shards/n-00000.h5 same
run data import-column liked --scores shards/n-00000.columns/liked.npy same 2>import.log && grep -q '13 of 13 rows' import.log || fail "a .npy: $(cat import.log)"
cmp same/n-00000.columns/liked.npy shards/n-00000.columns/liked.npy || fail "a .npy comes out as another one"
uid=$(run data why --json top.sel 3 shards | grep -oE '[0-9a-f]{32}' | head -n 1)
echo "{\"uid\":\"$uid\",\"good\":0.25}" >uid.jsonl
run data import-column one --scores uid.jsonl --key good shards 2>import.log && grep -q '1 of 60 rows' import.log || fail "a uid: $(cat import.log)"
refused 65 'was made in another way' data import-column liked --scores holes.jsonl shards
echo '{"id":"nobody","value":1}' >nobody.jsonl
refused 65 'none of its 1 lines' data import-column x --scores nobody.jsonl shards
printf '{"id":"3","value":1}\n{"id":"3","value":2}\n' >twice.jsonl
refused 65 'twice.jsonl:2: & a second number' data import-column x --scores twice.jsonl shards
echo '{"id":"3"}' >none.jsonl
refused 65 'none.jsonl:1: & no number' data import-column x --scores none.jsonl shards
echo '{"id":"3","value":-1e300}' >great.jsonl
refused 65 'great.jsonl:1: & more than a column of f32 holds' data import-column x --scores great.jsonl shards
refused 65 'holds 13 numbers, the shards have 60 samples' data import-column x --scores same/n-00000.columns/liked.npy shards
refused 64 'JSON lines name samples' data import-column x --images --scores scores.jsonl shards
refused 64 'cannot name a column' data import-column ../x --scores scores.jsonl shards
absent '*/*/x.*'
# The columns of data hash.
run data hash shards >hash.log 2>&1 || { cat hash.log; fail "hash: exit $?"; }
run data prune --out blank.sel --undecodable --deviation-min 20 --quality-min 1 --json shards >blank.json || fail "columns of hash: exit $?"
run data prune --measure --json shards >measured.json || fail "measure: exit $?"
jq -e '[.measures[] | select(.measure == "decodable" or .measure == "grey deviation" or .measure == "pdq quality") | .samples] == [60, 60, 60]' measured.json >/dev/null ||
  fail "columns of hash: $(jq -c .measures measured.json)"
refused 65 'has no column nothing' data prune --out x.sel --column nothing --min 0 shards
LAUNCH=$two refused 65 "bifocal data embed" data prune --out x.sel --clip-top 0.3 shards
absent x.sel '*.tmp*'
finish
