#!/usr/bin/env bash
# A CLIP trained on good pairs finds planted captions of other pictures: data embed, data prune by score, on several ranks.
. "$(dirname "$0")/common.inc"
make_data 400
# Every 5th caption names another colour: 80 of 400.
jq -c '(.id | tonumber) as $n | ["red", "green", "blue", "white"] as $c |
  . + {caption: (if $n % 5 == 0 then "a \($c[($n + 1 + ($n / 5 | floor) % 3) % 4]) square" else .caption end)}' data/captions.jsonl >noisy.jsonl
jq -c '{id, value: (if (.id | tonumber) % 5 == 0 then 1 else 0 end)}' noisy.jsonl >wrong.jsonl
run data pack --input noisy.jsonl --image-root data/images --out noisy --prefix n --max-samples 150 >pack.log 2>&1 || { cat pack.log; fail pack; finish; }
run train clip.yaml --set train.steps=800 --set batch.samples=32 --set clip.loss=sigmoid --set optimizer.warmup_steps=50 --set train.checkpoint_every=0 >clip.log 2>&1 ||
  { cat clip.log; fail "train: exit $?"; finish; }
run data embed out/clip --threads 1 noisy >embed.log 2>&1 || { cat embed.log; fail "embed: exit $?"; finish; }
run data import-column wrong --scores wrong.jsonl noisy 2>/dev/null || fail "import: exit $?"
run data prune --out top.sel --clip-top 0.8 --json noisy >top.json || fail "prune: exit $?"
ranks 3 data prune --out top3.sel --clip-top 0.8 noisy/n-00002.h5 noisy/n-00000.h5 noisy/n-00001.h5 >/dev/null 2>&1 || fail "prune on 3 ranks: exit $?"
cmp top.sel top3.sel || fail "scores depend on the ranks"
run data prune --from top.sel --out right.sel --column wrong --max 0.5 --json noisy >left.json || fail "prune: exit $?"
dropped=$(jq .rules[0].dropped top.json) left=$(jq .rules[0].dropped left.json)
echo "dropped $dropped of 400, of them $((80 - left)) of the 80 captions of other pictures"
[ "$left" -le 10 ] && [ $((dropped - 80 + left)) -le 8 ] || fail "the score finds $((80 - left)) of 80 among $dropped"
# The same from the threshold that was told.
run data prune --out min.sel --clip-score-min "$(jq .rules[0].limit top.json)" --json noisy >min.json || fail "prune: exit $?"
[ "$(jq .rules[0].dropped min.json)" -eq "$dropped" ] || fail "the threshold that was told drops $(jq .rules[0].dropped min.json), not $dropped"
# Embeddings of another checkpoint beside these.
run train clip.yaml --set output=out/other --set train.steps=4 >clip.log 2>&1 || { cat clip.log; fail "train: exit $?"; }
run data embed out/other --text --overwrite --threads 1 noisy >embed.log 2>&1 || { cat embed.log; fail "embed: exit $?"; }
refused 65 'are of different checkpoints' data prune --out x.sel --clip-top 0.8 noisy
finish
