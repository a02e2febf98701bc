#!/usr/bin/env bash
# submit: every form, ids as the questions write them, and what is missing, unknown or twice is refused or counted. Against LLaVA's own scripts:
# tests/golden/check_submit.py.
. "$(dirname "$0")/common.inc"
cat >predictions.jsonl <<'J'
{"question_id": 7, "text": "The red, t-shirt."}
{"question_id": "b8", "text": "say \"no\"\tor <this> & 이 \u0001"}
{"question_id": 9, "text": ""}
J
echo '{"info": {"id": 5}, "questions": [{"image_id": 1, "question": "what?", "question_id": 9}, {"question_id": "b8"}, {"question_id": 7}]}' >vqa.json
run submit vqav2 predictions.jsonl --questions vqa.json --out vqa.out >said || fail "vqav2: exit $?"
# M4C's steps, by hand: lower case, commas deleted, "-" to a space, the article and the period gone.
diff <(jq -c . vqa.out) <(echo '[{"question_id":9,"answer":""},{"question_id":"b8","answer":"say no or this & 이 \u0001"},{"question_id":7,"answer":"red t shirt"}]' | jq -c .) ||
  fail "vqav2"
grep -q '^vqa.out: 3 questions$' said || fail "said $(cat said)"
printf '%s\n' '{"question_id": "b8", "image": "8.jpg", "text": "?"}' '{"question_id": 7, "image": "sub/7.jpg"}' '{"question_id": 9, "image": "9.jpg"}' >vizwiz.jsonl
run submit vizwiz predictions.jsonl --questions vizwiz.jsonl --out vizwiz.out >/dev/null &&
  [ "$(jq -c 'map([.image, .answer])' vizwiz.out)" = '[["8.jpg","say no or this & 이 \u0001"],["sub/7.jpg","red t shirt"],["9.jpg",""]]' ] || fail "vizwiz: $(cat vizwiz.out)"
echo '[{"image": "a.jpg", "question": "what?"}]' >wild.json # VizWiz's own file has no ids
echo '{"a.jpg": "Unanswerable."}' >wild.pred
run submit vizwiz wild.pred --questions wild.json --out wild.out >/dev/null && [ "$(jq -c . wild.out)" = '[{"image":"a.jpg","answer":"unanswerable"}]' ] || fail "vizwiz without ids"
echo '{"data": [{"questionId": 7, "image": "x"}, {"questionId": "b8"}, {"questionId": 9}]}' >doc.json
run submit docvqa predictions.jsonl --questions doc.json --out doc.out >/dev/null &&
  [ "$(jq -c 'map(.questionId)' doc.out)$(jq -r '.[0].answer' doc.out)" = '[7,"b8",9]The red, t-shirt.' ] || fail "docvqa: $(cat doc.out)"
run submit seed predictions.jsonl --questions vqa.json --out seed.out >/dev/null &&
  [ "$(jq -sc 'map(.question_id)' seed.out)" = '[9,"b8",7]' ] && [ "$(jq -r .prediction seed.out | tail -n 1)" = 'The red, t-shirt.' ] || fail "seed: $(cat seed.out)"
printf 'index\tquestion\thint\tA\tB\tanswer\timage\n7\t"what\tis ""it""?"\t\t<1>\ttwo\tA\taGk=\nb8\tand?\tx\t3\t\tB\taGk=\n9\tso?\tx\t3\t4\tB\taGk=\n' >bench.tsv
for form in tsv csv xlsx; do
  run submit mmbench predictions.jsonl --questions bench.tsv --out table.$form >/dev/null || fail "mmbench .$form: exit $?"
done
printf 'index\tquestion\tA\tB\tprediction\n7\t"what\tis ""it""?"\t<1>\ttwo\tThe red, t-shirt.\nb8\tand?\t3\t\t"say ""no""\tor <this> & 이 \001"\n9\tso?\t3\t4\t\n' | diff - table.tsv ||
  fail "mmbench .tsv"
printf 'index,question,A,B,prediction\n7,"what\tis ""it""?",<1>,two,"The red, t-shirt."\nb8,and?,3,,"say ""no""\tor <this> & 이 \001"\n9,so?,3,4,\n' | diff - table.csv || fail "mmbench .csv"
for part in '<c r="A2"><v>7</v></c>' '<t xml:space="preserve">&lt;1&gt;</t>' '<c r="A3" t="inlineStr"><is><t xml:space="preserve">b8</t>' '&lt;this&gt; &amp; 이 �</t>' 'PK'; do
  grep -qaF -- "$part" table.xlsx || fail "the .xlsx lacks $part"
done
if command -v unzip >/dev/null; then unzip -tq table.xlsx >/dev/null || fail "unzip refuses the .xlsx"; fi
# Lines may lie in several files.
echo '{"question_id": 7}' >one.jsonl
printf '%s\n' '{"question_id": "b8"}' '{"question_id": 9}' >two.jsonl
for order in "one two" "two one"; do
  run submit seed predictions.jsonl --questions ${order% *}.jsonl --questions ${order#* }.jsonl --out lines.out >said 2>&1 && [ "$(wc -l <lines.out)" -eq 3 ] || fail "$order: $(cat said)"
done
# What is read is not replaced.
cp vqa.json kept.json && cp predictions.jsonl kept.jsonl
refused 64 '--out kept.json: is read as well' submit vqav2 predictions.jsonl --questions kept.json --out kept.json
refused 64 '--out ./kept.jsonl: is read as well (kept.jsonl)' submit vqav2 kept.jsonl --questions vqa.json --out ./kept.jsonl
cmp -s kept.json vqa.json && cmp -s kept.jsonl predictions.jsonl || fail "an input was replaced"
# Missing, unknown, twice.
echo '{"questions": [{"question_id": 9}, {"question_id": 70}, {"question_id": 7}, {"question_id": "b8"}]}' >more.json
refused 65 '1 of 4 questions have no prediction, first 70' submit vqav2 predictions.jsonl --questions more.json --out refused.json
run submit vqav2 predictions.jsonl --questions more.json --out more.out --missing >said && [ "$(jq -c '.[1]' more.out)" = '{"question_id":70,"answer":""}' ] || fail "--missing: $(cat more.out)"
grep -q '4 questions, 1 of them without a prediction' said || fail "--missing said $(cat said)"
echo '{"questions": [{"question_id": 9}]}' >less.json
refused 65 '2 predictions are of questions that the references do not have, first predictions.jsonl:1: 7' submit vqav2 predictions.jsonl --questions less.json --out refused.json
run submit vqav2 predictions.jsonl --questions less.json --out less.out --allow-unknown >said && grep -q '2 predictions left out' said || fail "--allow-unknown"
refused 65 'less.json' submit vqav2 predictions.jsonl --questions less.json --questions less.json --out refused.json
refused 65 'names no image' submit vizwiz predictions.jsonl --questions vqa.json --out refused.json
printf 'index\tquestion\n1\tx\n' >bare.tsv
refused 65 'bare.tsv:1: no column A' submit mmbench predictions.jsonl --questions bare.tsv --out refused.tsv
refused 64 "there is no task 'vqa'" submit vqa predictions.jsonl --questions vqa.json --out refused.json
refused 64 '.xlsx, .tsv or .csv' submit mmbench predictions.jsonl --questions bench.tsv --out refused.json
refused 65 'have no prediction & --missing gives them an empty one' submit vqav2 predictions.jsonl --questions more.json --out x.out
refused 64 '--out is missing' submit vqav2 predictions.jsonl --questions vqa.json
jq -nc '{question_id: 7, text: ("x" * 32768)}, {question_id: "b8", text: ""}, {question_id: 9, text: ""}' >long.jsonl
refused 65 'cell E2 would have 32768 characters' submit mmbench long.jsonl --questions bench.tsv --out refused.xlsx
absent 'refused*.json' 'refused.tsv' 'refused.xlsx'
leftovers
finish
