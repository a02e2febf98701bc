#!/usr/bin/env bash
# report: the table holds the scores that score printed, untrusted texts reach the page escaped, pictures are in it, the same questions are drawn again.
. "$(dirname "$0")/common.inc"
"$tools/tool_fixture" data 30 || fail "no data"
# Two checkpoints: one right in two questions of three, the other in one of two; texts that would be markup.
hostile='"><img src=x onerror=alert(1)>&amp;'
jq -c --arg hostile "$hostile" '. + {prediction: (if (.question_id % 3) == 0 then $hostile else .answer end), question: (.question + "</p><script>x</script>")}' \
  data/questions.jsonl >a.jsonl
jq -c '{question_id, text: (if (.question_id % 2) == 0 then "wrong" else .answer end)}' data/questions.jsonl >b.jsonl
jq -c '{annotations: [inputs | {question_id, image_id: .image, answer_type: .type, answers: [range(10) as $i | {answer: (if $i < 7 then .answer else "<i>other</i>" end)}]}]}' \
  -n data/questions.jsonl >annotations.json
for c in a b; do
  run score vqav2 $c.jsonl --references annotations.json --bootstrap 50 --items $c.items.jsonl --json >$c.json || fail "score $c"
done
echo '{"task": "vqav2", "metrics": [{"name": "accuracy", "value": 78.41}]}' >server.json
echo '{"task": "mme", "missing": 2, "metrics": [{"name": "perception", "value": 1470.0, "low": 1450, "high": 1490}, {"name": "cognition", "value": null}]}' >mme.json
report() { run report --out "$1" --image-root data/images --like 7b --like "b|c=13b" --title "<u>Scores</u>" "a=a.json" "b|c=b.json" a=server.json@test-dev "b|c=mme.json" "${@:2}"; }
report out >table.txt || fail "report: exit $?"
for c in a b; do
  diff <(jq -c '[.metrics[] | [.name, .value, .low, .high, .questions]]' $c.json) \
    <(jq -c --arg f $c.json '[.tasks[].scores[] | select(.file == $f).metrics[] | [.name, .value, .low, .high, .questions]]' out/report.json) || fail "$c: other numbers"
done
jq -e '[.tasks[] | [.task, .split, (.scores | length), .published.comparable]] == [["vqav2","",2,false],["vqav2","test-dev",1,true],["mme","",1,true]]' out/report.json >/dev/null ||
  fail "tasks: $(jq -c .tasks out/report.json)"
jq -e '.tasks[1].scores[0].held_against | .model == "7b" and .published == 78.5 and .inside == true and .band == 0.5' out/report.json >/dev/null || fail "test-dev is not held against 78.5"
jq -e '.tasks[2].scores[0].held_against | .model == "13b" and .published == 1531.3 and .inside == false' out/report.json >/dev/null || fail "MME is not held against 1531.3"
jq -e '.tasks[0].scores | all(has("held_against") | not)' out/report.json >/dev/null || fail "scores of val are held against test-dev"
value=$(jq -r '.metrics[0].value * 100 | round / 100' a.json)
grep -q "^vqav2 .*$value \[" table.txt && grep -q '78.41 (-0.09, inside 0.5)' table.txt && grep -q '(-61.30, OUTSIDE 30), 2 missing' table.txt || { cat table.txt; fail "the table"; }
grep -qF '| task | metric | norm | questions | unparsed | a | b\|c |' out/report.md || { cat out/report.md; fail "Markdown's head"; }
[ "$(awk -F'|' '/^\|/ {gsub(/\\\|/, ""); print NF}' out/report.md | sort -u | wc -l)" -eq 1 ] || fail "Markdown's rows differ in length"
[ "$(wc -l <out/report.csv)" -eq $((1 + $(jq '[.tasks[].scores[].metrics | length] | add' out/report.json))) ] || fail "CSV: $(wc -l <out/report.csv) lines"
# Which rule, over how many questions, how many answers could not be read, which were left out, and what score had to say stands in every table.
jq -n '{task: "pope", norm: "llava", questions: 300, missing: 0, duplicates: 4, unparsed: 15, notes: ["a version nobody knows"], metrics: [{name: "F1", value: 90, questions: 300}]}' >p1.json
jq '.norm = "official" | .unparsed = 0 | .duplicates = 0 | .notes = ["a version nobody knows", "its <answers>"]' p1.json >p2.json
run report --out rules --like 7b one=p1.json two=p2.json >rules.txt || fail "report of rules: exit $?"
tr -s ' ' <rules.txt >rules.flat
grep -qF 'pope F1 llava / official 300 5.00 % / 0.00 % 90.00 (300 questions, published: 8910), 4 duplicates 90.00 (300 questions, published: 8910) ' rules.flat || { cat rules.txt; fail "rules in the terminal"; }
grep -qF '| pope | F1 | llava / official | 300 | 5.00 % / 0.00 % |' rules/report.md || { cat rules/report.md; fail "rules in Markdown"; }
[ "$(grep -c 'a version nobody knows$' rules.txt)" -eq 1 ] && grep -qxF 'pope: a version nobody knows' rules.txt && grep -qxF 'pope, two: its <answers>' rules.txt || { cat rules.txt; fail "notes in the terminal"; }
grep -qxF -- '- pope, two: its \<answers\>' rules/report.md || { cat rules/report.md; fail "notes in Markdown"; }
grep -qF '4 duplicates' rules/report.html && jq -e '.tasks[0].scores[0] | .duplicates == 4 and .notes == ["a version nobody knows"]' rules/report.json >/dev/null || fail "duplicates and notes"
run report --out rules --like 7b p1.json@foo >rules.txt && grep -qxF 'pope foo: nothing is published of this split; --like compares nothing here' rules.txt || { cat rules.txt; fail "a split nobody published"; }
head -n 1 rules/report.csv | grep -q ',missing,duplicates,unparsed,' || fail "duplicates in CSV"
# The page.
page=out/report.html
for raw in '<script' '<img src=x' '<i>other' '<u>' 'http://' 'https://' 'url(' '@import'; do
  ! grep -qF -- "$raw" $page || fail "the page holds $raw"
done
for escaped in '&lt;/p&gt;&lt;script&gt;x' '&quot;&gt;&lt;img src=x onerror=alert(1)&gt;&amp;amp;' '&lt;i&gt;other&lt;/i&gt;' "Content-Security-Policy\" content=\"default-src 'none'"; do
  grep -qF -- "$escaped" $page || fail "the page lacks $escaped"
done
grep -o 'base64,[^"]*' $page | head -n 1 | cut -d, -f 2 | base64 -d >one.jpg && [ "$(head -c 3 one.jpg | od -An -tx1 | tr -d ' ')" = ffd8ff ] || fail "no JPEG in the page"
[ "$(grep -c '<article' $page)" -eq "$(grep -c 'data:image/jpeg' $page)" ] || fail "cards without a picture"
jq -s '[.[0], .[1]] as [$a, $b] | [range($a | length) | [$a[.].score >= 0.5, $b[.].score >= 0.5]] | [(map(select(. == [true, true])) | length), (map(select(. == [false, false])) | length),
  (map(select(.[0] != .[1])) | length)]' <(jq -s . a.items.jsonl) <(jq -s . b.items.jsonl) -c >kinds.json
grep -qF "right: $(jq '.[0]' kinds.json), wrong: $(jq '.[1]' kinds.json), checkpoints differ: $(jq '.[2]' kinds.json)." $page || fail "kinds of questions: not $(cat kinds.json)"
for k in 0 1 2; do
  n=$(grep -c "class=\"card k$k" $page) all=$(jq ".[$k]" kinds.json)
  [ "$n" -eq $((all < 12 ? all : 12)) ] || fail "kind $k: $n cards of $all"
done
# Pictures out of shards, by the samples' ids and, of what eval --shards asked, by their contents: the same page.
run data pack --input data/captions.jsonl --image-root data/images --out shards --prefix s >pack.log 2>&1 || fail "pack"
bare() { run report --out "$1" "${@:2}" a=a.json b=b.json >bare.log 2>&1 || { cat bare.log; fail "report $*"; }; }
bare files --image-root data/images
bare packed --shards shards/s-00000.h5
cmp files/report.html packed/report.html || fail "pictures of shards by name: another page"
bare task-root --image-root vqav2=data/images --image-root gqa=nowhere
cmp files/report.html task-root/report.html || fail "a task's own image root: another page"
refused 64 "no task 'vqa'" report --out x --image-root vqa=data/images a=a.json
refused 64 "either in --image-root or in --shards" report --out x --shards shards --image-root data/images a=a.json
# Every card says what the items say.
ids=$(grep -o 'class="meta">[0-9]*' $page | tr -dc '0-9\n' | sort -n | tr '\n' ' ')
report again --samples 12 >/dev/null && [ "$ids" = "$(grep -o 'class="meta">[0-9]*' again/report.html | tr -dc '0-9\n' | sort -n | tr '\n' ' ')" ] || fail "other questions were drawn"
tac a.items.jsonl >t && mv t a.items.jsonl
report again >/dev/null && cmp -s out/report.html again/report.html || fail "the page depends on the order of the items"
report small --samples 1 >/dev/null && [ "$(grep -c '<article' small/report.html)" -eq 3 ] || fail "--samples 1"
# A table brings questions and pictures of its own; a short number is the picture of another row.
picture=$(base64 -w 0 data/images/3.png)
{ printf 'index\tquestion\tA\tB\tanswer\timage\n1\twhat <now>?\tone\ttwo\tA\t%s\n2\tand that?\tone\ttwo\tB\t1\n3\tbroken?\tone\ttwo\tB\t!!!!\n' "$picture"; } >bench.tsv
printf '{"question_id":%d,"text":"A"}\n' 1 2 3 >bench.jsonl
run score mmbench bench.jsonl --references bench.tsv --items bench.items.jsonl --json >bench.json || fail "score mmbench"
run report --out table --questions bench.tsv bench.json >/dev/null || fail "report of a table: exit $?"
[ "$(grep -c 'data:image/jpeg' table/report.html)" -eq 2 ] && grep -q 'what &lt;now&gt;?' table/report.html && grep -q 'class="none">the picture of the table' table/report.html ||
  fail "questions of a table"
rm data/images/*.png
report without >/dev/null && ! grep -q 'data:image/jpeg' without/report.html && grep -q 'class="none"' without/report.html || fail "a page without its pictures"
# A part of a benchmark is not held against the number of the whole.
echo '{"task": "seed", "missing": 5009, "metrics": [{"name": "accuracy", "value": 66.2, "questions": 14233}]}' >seed.json
run report --out part --like 7b it=seed.json >part.txt && grep -qF '66.20 (14233 questions, published: 19242), 5009 missing' part.txt &&
  grep -qF '14233 questions, published: 19242' part/report.html && jq -e '.tasks[0].scores[0] | has("held_against") | not' part/report.json >/dev/null || { cat part.txt; fail "a part"; }
# Refusals.
echo '{"task": "gqa"}' >none.json
echo '{"task": "gqa", "metrics": [{"name": "accuracy", "value": "high"}]}' >text.json
jq '.items = "broken.jsonl"' a.json >broken.json
echo '{"question_id": 1, "score": ' >broken.jsonl
refused 64 'has scores of task vqav2 already & a.json' report --out refused a=a.json a=b.json
refused 64 "nothing is published of '70b'" report --out refused a.json --like 70b
refused 64 "no scores of a checkpoint 'z'" report --out refused a=a.json --like z=7b
refused 64 '--out is missing' report a.json
refused 64 'name at least one file' report --out refused
refused 65 'none.json: no list "metrics"' report --out refused none.json
refused 65 'text.json' report --out refused text.json
refused 65 'broken.jsonl:2' report --out refused broken.json
refused 74 'gone.json' report --out refused gone.json
refused 74 'nowhere' report --out refused a=a.json --image-root nowhere
[ ! -e refused/report.html ] || fail "a refused report left a page"
leftovers
finish
