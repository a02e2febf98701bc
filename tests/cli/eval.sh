#!/usr/bin/env bash
# eval and zeroshot: predictions stand in the order of the questions and do not depend on the batch, the ranks, or on which questions stand beside one
# another; scores are recounted here from the predictions.
. "$(dirname "$0")/common.inc"
make_data 24
for stage in clip lm pretrain finetune; do # enough that the answers depend on the pictures
  run train $stage.yaml --set train.steps=150 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
# Questions about one picture, with text-only ones between them, and some without an answer or a type.
jq -c '., . + {question_id: "t\(.question_id)", image: null, question: "what is two and two?", answer: "four, as everybody knows", type: "text"},
  . + {question_id: "n\(.question_id)", question: "describe it", answer: null, type: null}, . + {question_id: "r\(.question_id)", question: "is it red?",
  answer: (if .answer == "red" then " YES." else "No" end), type: "yes/no"}' data/questions.jsonl >mixed.jsonl
score() { # score NAME LAUNCH... -- OPTIONS...: predictions in NAME.jsonl, scores in NAME.json
  local name=$1 launch=()
  shift
  while [ "$1" != -- ]; do launch+=("$1"); shift; done
  "${launch[@]}" "$program" eval out/finetune --questions mixed.jsonl --image-root data/images --out "$name.jsonl" --summary "$name.json" --threads 1 --overwrite "${@:2}" \
    >"$name.log" 2>&1 || { cat "$name.log"; fail "$name: exit $?"; finish; }
}
mpi="mpirun --oversubscribe --bind-to none -n"
score whole -- --batch 200
score one -- --batch 1
score seven -- --batch 7
score two $mpi 2 -- --batch 5
score four $mpi 4 -- --batch 40
for other in one seven two four; do
  diff whole.jsonl $other.jsonl >diff.txt || { head -n 4 diff.txt; fail "$other: other predictions"; }
  diff <(jq -S 'del(.seconds, .peak_rss_mib)' whole.json) <(jq -S 'del(.seconds, .peak_rss_mib)' $other.json) || fail "$other: other scores"
done
diff <(jq -c '[.question_id, .image, .question, .answer]' mixed.jsonl) <(jq -c '[.question_id, .image, .question, .answer]' whole.jsonl) >diff.txt ||
  { head -n 4 diff.txt; fail "the predictions do not stand in the order of the questions"; }
[ "$(jq -r .prediction whole.jsonl | sort -u | wc -l)" -gt 3 ] || fail "the answers hardly differ: this test would not see a wrong picture"
# The scores, counted again.
jq -s '[., $q] | transpose | map(select(.[0].answer != null) | {type: .[1].type, right: ([.[0].prediction, .[0].answer] |
    map(ascii_downcase | gsub("^\\s+|\\s+$"; "") | rtrimstr(".")) | .[0] == .[1])}) |
  {questions: ($q | length), scored: length, correct: (map(select(.right)) | length),
   types: (group_by(.type) | map({(.[0].type): ((map(select(.right)) | length) / length)}) | add)}' --slurpfile q mixed.jsonl whole.jsonl >want.json
diff <(jq -S . want.json) <(jq -S '{questions, scored, correct, types: .accuracy_per_type}' whole.json) || fail "the scores are not those of the predictions"
jq -e '.accuracy == .correct / .scored and .blank == false and .peak_rss_mib > 0' whole.json >/dev/null || fail "summary: $(cat whole.json)"
# Sampling and beams do not depend on them either.
for way in "--temperature 1.5 --top-p 0.9 --seed 3" "--beams 3 --length-penalty 0.5"; do
  score way1 -- --batch 13 $way
  score way2 $mpi 3 -- --batch 4 $way
  cmp way1.jsonl way2.jsonl || fail "$way: other predictions"
  cmp -s way1.jsonl whole.jsonl && fail "$way: answers as greedy ones"
done
score cold -- --temperature 0 --top-k 3
cmp cold.jsonl whole.jsonl || fail "temperature 0 is not greedy"
for wrong in "--temperature -1" "--top-p 1.5" "--beams 2 --temperature 1" "--beams 400"; do
  refused 64 "" eval out/finetune --questions mixed.jsonl --image-root data/images --out wrong.jsonl $wrong
done
jq -c 'del(.answer)' mixed.jsonl | head -n 3 >unanswered.jsonl
run eval out/finetune --questions unanswered.jsonl --image-root data/images --out none.jsonl --summary none.json --threads 1 >none.txt 2>/dev/null ||
  fail "questions without answers"
grep -q 'read no answers out of these questions' none.txt && grep -q -- '--references' none.txt || fail "questions without answers: $(cat none.txt)"
# What is finished is replaced when that is asked for, and not before.
refused 64 'none.jsonl: exists already & --overwrite' eval out/finetune --questions unanswered.jsonl --image-root data/images --out none.jsonl
LAUNCH=$two refused 64 'none.jsonl: exists already & --overwrite' eval out/finetune --questions unanswered.jsonl --image-root data/images --out none.jsonl
absent 'none.jsonl.*'
run eval out/finetune --questions unanswered.jsonl --image-root data/images --limit 1 --out none.jsonl --overwrite --threads 1 >none.log 2>&1 && [ "$(wc -l <none.jsonl)" -eq 1 ] || { cat none.log; fail "--overwrite"; }
# Several right answers are a list, as in references of score exact: the same score.
jq -c '.answer = ["nothing", .answer]' data/questions.jsonl >listed.jsonl
run eval out/finetune --questions listed.jsonl --references listed.jsonl --image-root data/images --out listed.out --summary listed.json --threads 1 >listed.log 2>&1 || { cat listed.log; fail "lists of answers"; }
jq -e '.scored == 24 and .correct > 0 and (.metrics[0].value - 100 * .accuracy | fabs) < 1e-9' listed.json >/dev/null || fail "lists of answers: $(cat listed.json)"
[ "$(jq -c .answer listed.out | head -n 1)" = "$(jq -c .answer listed.jsonl | head -n 1)" ] && run score exact listed.out --references listed.jsonl >/dev/null || fail "lists of answers in the predictions"
# As many <image> as pictures, or none.
echo '{"question_id":1,"image":"3.png","question":"<image>\n<image>\nwhat color is the square?"}' >twice.jsonl
refused 65 'twice.jsonl:1: & 2 <image> placeholders but 1 pictures' eval out/finetune --questions twice.jsonl --image-root data/images --out twice.out
refused 65 '--prompt: 2 <image> placeholders but 1 pictures' generate out/finetune --image data/images/3.png --prompt '<image> and <image>?'
refused 65 '--prompt: 1 <image> placeholders but 0 pictures' generate out/finetune --prompt '<image>?'
{ ! grep -q 'nothing is scored' none.txt || grep -q '%' none.txt; } && fail "a score of no answers: $(cat none.txt)"
jq -e '.scored == 0 and .accuracy == null' none.json >/dev/null || fail "a score of no answers: $(cat none.json)"
# Without pictures nothing but the question counts.
score blank -- --batch 9 --blank
[ "$(jq -r 'select(.question == "what color is the square?").prediction' blank.jsonl | sort -u | wc -l)" -eq 1 ] || fail "blank pictures differ"
# Other pictures: no question keeps its own, all questions about one get the same, whatever the ranks.
score shuffled -- --batch 9 --ablate image=shuffle
score shuffled2 $mpi 2 -- --ablate image=shuffle
cmp shuffled.jsonl shuffled2.jsonl || fail "shuffled pictures depend on ranks or batch"
[ "$(jq -s '[., $w] | transpose | map(select(.[0].image != null and .[0].prediction != .[1].prediction)) | length' --slurpfile w whole.jsonl shuffled.jsonl)" -gt 5 ] ||
  fail "shuffled pictures change nothing"
jq -e '.ablate == "shuffle" and (.identity.pictures | endswith("image=shuffle"))' shuffled.json >/dev/null || fail "summary: $(cat shuffled.json)"
diff <(jq -S .identity shuffled.json) <(jq -S .identity shuffled2.json) || fail "the identity depends on the ranks"
run generate out/finetune --image data/images/3.png --prompt "what color is the square?" --max-new-tokens 16 --threads 1 >said || fail "generate: exit $?"
[ "$(cat said)" = "$(jq -r 'select(.question_id == 3).prediction' whole.jsonl)" ] || fail "generate says '$(cat said)', eval something else"
truncate -s 4G data/images/huge.png # a hole, no disk space
echo '{"question_id":1,"image":"huge.png","question":"what?"}' >huge.jsonl
status=0
run eval out/finetune --questions huge.jsonl --image-root data/images --out huge.out >huge.log 2>&1 || status=$?
[ $status -eq 65 ] && grep -q 'huge.jsonl:1: .*huge.png: has 4294967296 bytes' huge.log || { cat huge.log; fail "a picture of 4 GiB: exit $status"; }
# Zero-shot.
for n in 1 3; do
  for batch in 1 5 64; do
    ranks $n zeroshot out/clip --classes data/classes.txt --images data/labels.jsonl --image-root data/images --batch $batch --summary z$n-$batch.json \
      --threads 1 >zeroshot.log 2>&1 || { cat zeroshot.log; fail "zeroshot on $n"; }
    diff <(jq -S 'del(.seconds, .peak_rss_mib)' z1-1.json) <(jq -S 'del(.seconds, .peak_rss_mib)' z$n-$batch.json) || fail "zeroshot depends on ranks or batch"
  done
done
finish
