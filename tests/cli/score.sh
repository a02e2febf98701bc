#!/usr/bin/env bash
# score: options that go with a task or do not, notes, every norm side by side with the questions that flip, comparison, messages, no file half written.
. "$(dirname "$0")/common.inc"
expect() { # expect CODE TEXT ARGUMENTS...
  local code=$1 text=$2 status=0
  shift 2
  run "$@" >printed 2>&1 || status=$?
  [ $status -eq "$code" ] || { fail "$*: exit $status, not $code"; cat printed; }
  grep -qF -- "$text" printed || { fail "$*: '$text' is not in:"; cat printed; }
}
for split in random popular; do
  cat >coco_pope_$split.json <<END
{"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "yes"}
{"question_id": 2, "image": "a.jpg", "text": "Is there a cat in the image?", "label": "no"}
END
done
cat >said.json <<'END'
{"random/1": "Yes.", "random/2": "No", "popular/1": "yes", "popular/2": "I see none"}
END
refs="--references coco_pope_random.json --references coco_pope_popular.json"
expect 0 'note: POPE: random 2, popular 2, adversarial 0 questions, "imange" in 0: not one of the two published versions' score pope said.json $refs
expect 0 'yes ratio/popular                               100.00  2' score pope said.json $refs
expect 0 '1 of 4 questions depend on the norm' score pope said.json $refs --norm all --flips flips.jsonl
cat >want <<'END'
{"question_id":"random/1","prediction":"Yes.","scores":{"official":1.0,"lmms":0.0,"vlmevalkit":1.0}}
END
diff want flips.jsonl || fail "the question that flips"
expect 0 '"notes": [' score pope said.json $refs --json
expect 0 'right in one alone: 0 and 0' score pope said.json $refs --against said.json
expect 0 '[' score pope said.json $refs --bootstrap 50
expect 64 '--norm: task pope has no such norm' score pope said.json $refs --norm m4c
expect 64 'there is no norm' score pope said.json $refs --norm own
expect 64 '--box-space: task pope has no boxes' score pope said.json $refs --box-space unit
echo '{"image": "a.jpg", "sent": "the dog", "bbox": [10, 10, 50, 50], "width": 100, "height": 100}' >boxes.jsonl
echo '{"question_id": 0, "text": "[0.1, 0.1, 0.5, 0.5]"}' >boxes_said.jsonl
expect 64 'task refcoco wants --box-space' score refcoco boxes_said.jsonl --references boxes.jsonl
expect 64 "there is no box space 'square'" score refcoco boxes_said.jsonl --references boxes.jsonl --box-space square
expect 0 'accuracy@0.5                                    100.00  1' score refcoco boxes_said.jsonl --references boxes.jsonl --box-space unit
expect 0 'accuracy@0.5                                      0.00  1' score refcoco boxes_said.jsonl --references boxes.jsonl --box-space 1000
printf 'index\tquestion\tA\tB\tanswer\timage\n1\t?\tcat\tdog\tA\tiVBORw0KGgo=\n1000001\t?\tdog\tcat\tB\tiVBORw0KGgo=\n' >mmbench.tsv
printf 'index\tprediction\n1\tA\n1000001\tA dog\n' >mmbench_said.tsv
expect 0 'circular                                          0.00  1' score mmbench mmbench_said.tsv --references mmbench.tsv
expect 0 'vanilla                                         100.00  1' score mmbench mmbench_said.tsv --references mmbench.tsv
printf 'index\tprediction\n1\tA\n' >base.tsv
expect 0 'note: 1 of the 2 rows: turns that are left out count as right in circular' score mmbench base.tsv --references mmbench.tsv --missing skip
mkdir -p pairs/count && printf 'Is it? Please answer yes or no.\tYes\nIs it not? Please answer yes or no.\tNo\n' >pairs/count/a.txt
echo '{"count/a\nIs it?": "yes"}' >pair.json
expect 0 'note: 1 pictures have one question of their two' score mme pair.json --references pairs --missing skip
expect 65 'mmbench.tsv:1: no column prediction' score mmbench mmbench.tsv --references mmbench.tsv
printf 'index\tprediction\n1\tA\n' >half.tsv
expect 65 '1 of 2 questions have no prediction, first 1000001' score mmbench half.tsv --references mmbench.tsv --items items.jsonl
[ -e items.jsonl ] && fail "a failed run left items.jsonl"
printf 'index\tquestion\tA\tB\tanswer\n1\t?\tcat\tdog\tA\tx\n' >bad.tsv
expect 65 'bad.tsv:2: more than 5 fields' score mmbench half.tsv --references bad.tsv
expect 65 'no folder or .txt file of a subtask of MME' score mme said.json --references .
{ printf 'index\tanswer\n1\t"['; printf "'a', %.0s" $(seq 30000); printf "'b']\"\n"; } >answers.tsv
echo '{"1": "b"}' >answers_said.json
(grep -q __asan_init "$program" || ulimit -v 1000000; run score chartqa answers_said.json --references answers.tsv >printed 2>&1) || fail "a field of 30,001 answers: $(cat printed)"
grep -q '^relaxed accuracy  *100.00' printed || fail "the last of 30,001 answers"

# What is read is not replaced.
cp said.json same.json
expect 64 '--items same.json: is read as well' score pope same.json $refs --items same.json
expect 64 '--flips same.json: is read as well' score pope said.json $refs --norm all --against same.json --flips same.json
expect 64 '--items coco_pope_random.json: is read as well' score pope said.json $refs --items coco_pope_random.json
cmp -s said.json same.json || fail "an input was replaced"
# A prediction that is null is none, and what stands beside it, the right answer perhaps, is no prediction either. No p-value is 0.
echo '{"question_id": 1, "answer": "yes"}' >right.jsonl
for row in '"prediction": null, "answer": "yes"' '"answer": "yes", "prediction": ["no"]' '"text": true, "answer": "yes"'; do
  echo "{\"question_id\": 1, $row}" >null.jsonl
  expect 65 'null.jsonl:1: ' score exact null.jsonl --references right.jsonl
  grep -q 'neither a text nor a number' printed || fail "$row: $(cat printed)"
done
echo '{"question_id": 1, "answer": ["no"], "text": "yes"}' >list.jsonl
expect 0 '100.00' score exact list.jsonl --references right.jsonl
for i in $(seq 30); do echo "{\"question_id\": $i, \"answer\": \"yes\"}"; done >all_right.jsonl
sed 's/yes/no/' all_right.jsonl >all_wrong.jsonl
expect 0 'bootstrap p of the first = 0.0198' score exact all_wrong.jsonl --references all_right.jsonl --against all_right.jsonl --bootstrap 100
expect 0 'bootstrap p of the first = 1' score exact all_right.jsonl --references all_right.jsonl --against all_right.jsonl --bootstrap 100
# A question without prediction is wrong, also where the empty text is right; the columns of JSON and the pairs of a comparison are whole.
long=$(printf '가%.0s' $(seq 40))
cat >own.jsonl <<END
{"question_id": 1, "answer": "yes", "image": "a", "type": "$long"}
{"question_id": 2, "answer": ".", "image": "b", "type": "t"}
{"question_id": 3, "answer": "no", "image": "b", "type": "t"}
END
said() { for id in "$@"; do echo "{\"question_id\": $id, \"prediction\": \"yes\"}"; done; }
said 1 3 >said13.jsonl
said 1 2 >said12.jsonl
expect 0 'accuracy                                         33.33  3' score exact said13.jsonl --references own.jsonl --missing wrong
run score exact said13.jsonl --references own.jsonl --missing wrong --json >own.json
[ "$(jq -r '.metrics | length' own.json)" = 3 ] || fail "a name that was cut within a character left the JSON: $(cat own.json)"
expect 65 'not the same ones, which a paired comparison wants' score exact said13.jsonl --references own.jsonl --missing skip --against said12.jsonl
expect 0 'McNemar' score exact said13.jsonl --references own.jsonl --missing skip --against said13.jsonl
expect 64 '--bootstrap: up to 1000000 draws' score exact said13.jsonl --references own.jsonl --missing wrong --bootstrap 2305843009213693952
cp coco_pope_random.json .json
echo '{"1": "yes", "2": "yes"}' >said_nameless.json
expect 0 'F1/.json ' score pope said_nameless.json --references .json
cat >gqa.json <<'END'
{"1": {"answer": "yes", "imageId": "a", "isBalanced": true, "entailed": ["2"], "groups": {"global": "g"}}, "2": {"answer": "no", "imageId": "a", "isBalanced": false, "entailed": []}}
END
echo '{"1": "yes", "2": "no"}' >gqa_all.json
echo '{"1": "yes"}' >gqa_balanced.json
expect 0 'McNemar' score gqa gqa_all.json --references gqa.json --against gqa_balanced.json
grep -q '^consistency  *-  \[-, -\]$' printed || fail "a metric that one side has not: $(cat printed)"
expect 0 'distribution (lower is better)' score gqa gqa_balanced.json --references gqa.json --against gqa_all.json
# Numbers of nothing are "-", the second file's ids are counted like the first's, a key that comes twice is an error.
run score exact said13.jsonl --references own.jsonl --missing wrong --allow-unknown --allow-duplicates --against said12.jsonl >printed 2>&1 || fail "compare: $(cat printed)"
grep -q '^said12.jsonl minus said13.jsonl, 1000 paired draws; in said12.jsonl 3 questions; missing 1, unknown 0, again 0, not parsed 0' printed || fail "counts of the second: $(cat printed)"
{ cat said12.jsonl; said 2 9 8; } >more.jsonl
run score exact said13.jsonl --references own.jsonl --missing wrong --allow-unknown --allow-duplicates --against more.jsonl --json | jq -e \
  '.against | .missing == 1 and .unknown == 2 and .duplicates == 1 and .questions == 3 and .mcnemar_p != null' >/dev/null || fail "counts of the second as JSON"
run score gqa gqa_balanced.json --references gqa.json --against gqa_all.json --json | jq -e '.against.differences | map(.low) | length > 3' >/dev/null || fail "differences as JSON"
grep -qi nan printed && fail "nan in a table: $(cat printed)"
printf '{"question_id": 1, "prediction": "a"}\n{"question_id": 3,\n "prediction": "a", "prediction": "yes"}\n' >key.jsonl
expect 65 'key.jsonl:3:35: the key prediction stands in this object a second time' score exact key.jsonl --references own.jsonl --missing wrong
echo '[{"question_id": 1, "question_id": 3, "answer": "a"}]' >key.json
expect 65 'key.json:1:36: the key question_id stands' score exact key.json --references own.jsonl --missing wrong
# 40,000 questions that share their other name (LLaVA's rows name TextVQA's questions by picture and text) are matched in turn, at once.
jq -nc '{data: [range(40000) | {question_id: ., image_id: "p", question: "what?", answers: [range(10) | "a"]}]}' >same.json
jq -nc 'range(40000) | {question_id: "p", prompt: "what?\nShort.", text: (if . % 2 == 0 then "a" else "b" end)}' >same.jsonl
timeout 20 "$program" score textvqa same.jsonl --references same.json >printed 2>&1 && grep -q '^accuracy  *50.00 ' printed || fail "questions that share a name: $(cat printed)"
# Windows' files: a mark of byte order, carriage returns. Predictions in another order, ids beyond 64 bits.
for f in own said13; do { printf '\xef\xbb\xbf'; sed 's/$/\r/' $f.jsonl | tac; } >$f.win.jsonl; done
expect 0 'accuracy                                         33.33  3' score exact said13.win.jsonl --references own.win.jsonl --missing wrong
for f in own said13; do sed 's/"question_id": /&99999999999999999999/' $f.jsonl >$f.big.jsonl; done
expect 0 'accuracy                                         33.33  3' score exact said13.big.jsonl --references own.big.jsonl --missing wrong
{ printf '\xef\xbb\xbf'; run score exact said13.jsonl --references own.jsonl --missing wrong --json; } >scores.json
expect 0 'exact' report --out pages scores.json
expect 65 'report takes what bifocal score --json prints: own.jsonl:2:1: not valid JSON' report --out pages own.jsonl
# NoCaps: each domain is scored as a file of its own would be. The order of MMBench's rows does not matter.
jq -nc '{images: [range(12) | {id: ., domain: (["in-domain", "near-domain", "out-domain"][. % 3])}], annotations: [range(12) as $i | range(3) |
  {image_id: $i, caption: "a \(["red", "blue", "old", "tall"][$i % 4]) \(["dog", "cat", "house", "tree", "car"][($i + .) % 5]) stands on the \(["grass", "street", "hill"][. % 3])"}]}' >nocaps.json
jq -nc '[range(12) | {image_id: ., caption: "a \(["red", "green", "old"][. % 3]) \(["dog", "cat", "house", "tree", "car"][. % 5]) on the grass"}]' >nocaps_said.json
run score caption nocaps_said.json --references nocaps.json --json >nocaps_all.json || fail "nocaps"
for domain in in-domain near-domain out-domain; do
  jq -c --arg d $domain '(.images | map(select(.domain == $d)) | map({id})) as $i | {images: $i, annotations: [.annotations[] | select(.image_id as $k | $i | any(.id == $k))]}' nocaps.json >part.json
  jq -c --slurpfile p part.json '[.[] | select(.image_id as $k | $p[0].images | any(.id == $k))]' nocaps_said.json >part_said.json
  run score caption part_said.json --references part.json --json >part_all.json || fail "nocaps, $domain"
  diff <(jq -c --arg d $domain '.metrics[] | select(.name | endswith("/" + $d)) | [(.name | rtrimstr("/" + $d)), .value, .questions]' nocaps_all.json) <(jq -c '.metrics[] | [.name, .value, .questions]' part_all.json) ||
    fail "nocaps: $domain is not what its file alone has"
done
jq -e '.metrics | length == 32 and (map(select(.name | startswith("CIDEr"))) | map(.value) | unique | length > 2)' nocaps_all.json >/dev/null || fail "nocaps: $(cat nocaps_all.json)"
for q in 1 2 3 4; do for turn in 0 1 2; do
  printf '%d\t?\tcat\tdog\tcow\t%s\n' $((turn * 1000000 + q)) "$(echo ABC | cut -c $((turn + 1)))"
done; done >turns
{ printf 'index\tquestion\tA\tB\tC\tanswer\n'; cat turns; } >ordered.tsv
{ printf 'index\tquestion\tA\tB\tC\tanswer\n'; shuf --random-source=<(yes) turns; } >mixed.tsv
awk -F '\t' '{ a = $6; if ($1 == 2000003 || $1 == 4) a = "B"; printf "{\"index\": %d, \"prediction\": \"%s\"}\n", $1, a }' turns >turns.jsonl
expect 0 'circular                                         50.00  4' score mmbench turns.jsonl --references ordered.tsv
expect 0 'circular                                         50.00  4' score mmbench turns.jsonl --references mixed.tsv
grep -q '^vanilla  *75.00  4$' printed || fail "vanilla: $(cat printed)"
mkdir -p mme/existence said
printf 'Is there a dog?\tYes\nIs there a cat?\tNo\n' >mme/existence/a.txt
printf 'a.jpg\tIs there a dog?\tYes\tyes\na.jpg\tIs there a cat?\tNo\tno \377\n' >said/existence.txt
expect 65 'existence.txt:2: not UTF-8' score mme said --references mme --items items.jsonl
printf 'a.jpg\tIs there a dog?\tYes\tyes\na.jpg\tIs there a cat?\tNo\tno\n' >said/existence.txt
expect 0 'accuracy+/existence                             100.00  1' score mme said --references mme --items items.jsonl
printf 'Is there a d\377g?\tYes\n' >mme/existence/a.txt
expect 65 'a.txt:1: the name of the picture, or the question, is not UTF-8' score mme said --references mme
printf 'dog, puppy\nc\377t\n' >synonyms.txt
expect 65 'synonyms.txt:2: not UTF-8' score chair said.json --references synonyms.txt
run score --help >help
for task in gqa pope mme scienceqa mmbench seed chartqa docvqa ocrbench refcoco korean; do
  grep -q "^  $task " help || fail "--help does not name $task"
done
finish
