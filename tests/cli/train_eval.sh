#!/usr/bin/env bash
# Evaluations while a run trains: the answers are those of `bifocal eval` of that step's checkpoint, the run's losses and weights are those of a run
# without them to the bit, and the best checkpoint stays.
. "$(dirname "$0")/common.inc"
make_data 40
for stage in clip lm pretrain; do
  run train $stage.yaml --set train.steps=60 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage"; finish; }
done
cat >tune.yaml <<Y
stage: finetune
output: out/tune
threads: 1
model: {init: out/pretrain}
data: {shards: [shards/talks], tokenizer: tokenizer.json, template: vicuna_v1, system: "", image_fit: pad, max_tokens: 256}
batch: {samples: 8, micro_tokens: 1024}
train: {steps: 40, checkpoint_every: 16, log_every: 0, keep: 100}
optimizer: {lr: 5e-3, clip_norm: 1.0, warmup_ratio: 0.1}
Y
evaluate="--set evaluate.every=8 --set evaluate.questions=data/questions.jsonl --set evaluate.image_root=data/images"
same() { cmp -s <(losses "$1") <(losses "$2") && "$tools/tool_st_diff" "$(weights "$1")" "$(weights "$2")" 0; }
train() { # train NAME OPTIONS...: into out/NAME, with the evaluation
  local name=$1
  shift
  run train tune.yaml --set output=out/$name $evaluate "$@" >$name.log 2>&1 || { cat $name.log; fail "$name: exit $?"; finish; }
}
scores() { jq -c 'select(.split == "eval") | [.step, .task, .metrics, .questions]' "$1/metrics.jsonl"; }

run train tune.yaml >tune.log 2>&1 || { cat tune.log; fail "tune"; finish; }
[ -e out/tune/eval ] || [ -e out/tune/best.json ] && fail "evaluations nobody asked for"
# The answers of step 24 are the right ones from here on, so that scores differ and the best is neither the last nor that of a regular checkpoint.
train first
jq -c --slurpfile p out/first/eval/step_00000024.jsonl '.question_id as $q | .answer = ($p[] | select(.question_id == $q) | .prediction)' \
  data/questions.jsonl >asked.jsonl && [ "$(wc -l <asked.jsonl)" -eq "$(wc -l <data/questions.jsonl)" ] || { fail "the questions"; finish; }
evaluate="--set evaluate.every=8 --set evaluate.questions=asked.jsonl --set evaluate.image_root=data/images"
train with
scores out/with | jq -es '(map(.[2].accuracy) | unique | length > 2) and .[2][2].accuracy == 100' >/dev/null || { scores out/with; fail "scores"; }
[ "$(jq .step out/with/best.json)" -eq 24 ] && [ -d out/with/step_00000024 ] || { cat out/with/best.json; fail "the best is not step 24"; }
same out/tune out/with || fail "evaluations change the run"
[ "$(scores out/with | jq -c '.[0]' | tr '\n' ' ')" = "8 16 24 32 40 " ] || { scores out/with; fail "evaluated at other steps"; }
[ "$(cat out/with/eval/*.jsonl | jq -r .prediction | sort -u | wc -l)" -gt 3 ] || fail "the answers hardly differ"
grep -q "^evaluation: every 8 steps" with.log && [ "$(grep -c 'step .*: exact accuracy' with.log)" -eq 5 ] || { cat with.log; fail "the log"; }

# The authority: each kept checkpoint, opened by eval.
for step in $(ls out/with | sed -n 's/^step_//p'); do
  run eval out/with/step_$step --questions asked.jsonl --image-root data/images --overwrite --out again.jsonl --summary again.json --threads 1 >again.log 2>&1 ||
    { cat again.log; fail "eval of step $step"; }
  [ -e out/with/eval/step_$step.jsonl ] || { [ "$((10#$step % 8))" -ne 0 ] || fail "no answers of step $step"; continue; }
  cmp -s again.jsonl out/with/eval/step_$step.jsonl || fail "step $step: other answers than eval's of the checkpoint"
  jq -es --argjson s "$((10#$step))" --slurpfile e again.json '.[] | select(.split == "eval" and .step == $s) |
    (.metrics.accuracy / 100 - $e[0].accuracy | fabs) < 1e-9 and .questions == $e[0].questions' out/with/metrics.jsonl >/dev/null || fail "step $step: another score"
done

# The best: of every score the first largest; its checkpoint is there, though only the last is kept.
best() { jq -s '[.[] | select(.split == "eval")] | max_by([.metrics.accuracy, -.step]) | {step, score: .metrics.accuracy}' "$1/metrics.jsonl"; }
for name in with keep; do
  [ $name = keep ] && train keep --set train.keep=1 --set train.checkpoint_every=1
  diff <(best out/$name | jq -S .) <(jq -S '{step, score}' out/$name/best.json) || fail "$name: best.json"
  [ -d "out/$name/$(jq -r .checkpoint out/$name/best.json)" ] || { ls out/$name; fail "$name: the best checkpoint is not there"; }
done
wanted=$({ echo step_00000040; jq -r .checkpoint out/keep/best.json; } | sort -u | tr '\n' ' ')
[ "$(cd out/keep && ls -d step_* | tr '\n' ' ')" = "$wanted" ] || { ls out/keep; fail "other checkpoints are kept"; }
train none --set evaluate.keep_best=no
[ -e out/none/best.json ] && fail "a best checkpoint nobody asked for"
[ "$(cd out/none && ls -d step_* | tr '\n' ' ')" = "step_00000016 step_00000032 step_00000040 " ] || { ls out/none; fail "checkpoints of evaluations"; }

# --best: eval, generate, chat and export of the run take that checkpoint, not the newest.
run eval out/with --best --questions asked.jsonl --image-root data/images --out best.jsonl --threads 1 >best.log 2>&1 || { cat best.log; fail "eval --best"; }
cmp -s best.jsonl out/with/eval/step_00000024.jsonl || fail "eval --best: another checkpoint's answers"
LAUNCH= ranks 2 eval out/with --best --questions asked.jsonl --image-root data/images --out best2.jsonl >best.log 2>&1 && cmp -s best.jsonl best2.jsonl || fail "--best on two ranks"
ask="what color is the square?"
[ "$(run generate out/with --best --image data/images/1.png --prompt "$ask" --threads 1)" = "$(run generate out/with/step_00000024 --image data/images/1.png --prompt "$ask" --threads 1)" ] ||
  fail "generate --best"
cmp -s <(echo "$ask" | run chat out/with --best --image data/images/1.png --threads 1 2>/dev/null) <(echo "$ask" | run chat out/with/step_00000024 --image data/images/1.png --threads 1 2>/dev/null) ||
  fail "chat --best"
run export --best --format hf-old out/with exported >best.log 2>&1 && "$tools/tool_st_diff" exported/model.safetensors out/with/step_00000024/model.safetensors 0 || { cat best.log; fail "export --best"; }
refused 65 "out/tune: has no best.json" eval out/tune --best --questions asked.jsonl --image-root data/images --out x.jsonl
cp -r out/with out/hurt && rm out/hurt/step_00000024/config.json
LAUNCH=$two refused 65 "out/hurt/best.json & config.json" eval out/hurt --best --questions asked.jsonl --image-root data/images --out x.jsonl
echo '{"checkpoint":"../with/step_00000024"}' >out/hurt/best.json
refused 65 "is no folder step_N" chat out/hurt --best
rm -r out/hurt

# Stopped in between and gone on; several ranks; adapters with dropout.
run train tune.yaml --set output=out/stop $evaluate --set train.keep=1 --set train.stop_after=27 >stop.log 2>&1; [ $? -eq 75 ] || { cat stop.log; fail "did not stop"; }
rm out/stop/best.json # as if it had been killed before it was written
train stop --set train.keep=1
same out/tune out/stop && cmp <(scores out/with) <(scores out/stop) || fail "a resumed run differs"
cmp out/with/best.json out/stop/best.json && [ -d "out/stop/$(jq -r .checkpoint out/stop/best.json)" ] || fail "a resumed run has another best"
lora="--set lora.rank=4 --set lora.dropout=0.2 --set train.steps=16"
run train tune.yaml --set output=out/lora $lora >lora.log 2>&1 || { cat lora.log; fail "lora"; }
train lora-with $lora
same out/lora out/lora-with || fail "evaluations change a run with dropout"
for more in "" "$evaluate"; do
  ranks 2 train tune.yaml --set output=out/two${more:+-with} --set train.steps=16 $more >two.log 2>&1 || { cat two.log; fail "two ranks"; }
done
same out/two out/two-with || fail "evaluations change a run on two ranks"
run eval out/two-with --questions asked.jsonl --image-root data/images --overwrite --out again.jsonl --threads 1 >again.log 2>&1 || fail "eval of two ranks' run"
cmp again.jsonl out/two-with/eval/step_00000016.jsonl || fail "two ranks answer otherwise than one"
run train lm.yaml --set output=out/text --set model.llama.positions=512 --set evaluate.every=10 --set evaluate.questions=text.jsonl >text.log 2>&1 &&
  fail "questions that are not there"
jq -c 'del(.image)' data/questions.jsonl | head -n 20 >text.jsonl
run train lm.yaml --set output=out/text --set evaluate.every=10 --set evaluate.questions=text.jsonl --set evaluate.limit=7 >text.log 2>&1 || { cat text.log; fail "stage lm"; }
[ "$(wc -l <out/text/eval/step_00000020.jsonl)" -eq 7 ] || fail "the limit"

# A scorer with references of its own; and what is another evaluation has no best score of this one.
jq -c '{question_id, answer: "no"}' asked.jsonl >no.jsonl
train with --set train.steps=40 && grep -q "all 40 steps are done" with.log || fail "a run that is done"
cp -r out/stop out/other && rm -rf out/other/step_00000040
train other --set evaluate.references=no.jsonl --set train.keep=1
grep -q "is of another evaluation" other.log || { cat other.log; fail "scores of two evaluations were compared"; }

# A picture that is not there is told before step 1; one that cannot be read costs the evaluation, not the run.
sed '3s/"image": *"[^"]*"/"image":"gone.jpg"/; 7s/"image": *"[^"]*"/"image":"away.jpg"/' data/questions.jsonl >gone.jsonl
refused 65 "evaluate & gone.jsonl:3: & gone.jpg" train tune.yaml --set output=out/gone $evaluate --set evaluate.questions=gone.jsonl
LAUNCH=$two refused 65 "evaluate & gone.jsonl:3: & gone.jpg" train tune.yaml --set output=out/gone $evaluate --set evaluate.questions=gone.jsonl
[ -e out/gone/step_00000016 ] && fail "a run began in spite of a missing picture"
cp data/classes.txt data/images/text.png
sed '3s/"image": *"[^"]*"/"image":"text.png"/' data/questions.jsonl >broken.jsonl
train spoilt --set evaluate.questions=broken.jsonl --set train.steps=8
grep -q "step 8 is not evaluated.*text.png" spoilt.log || { cat spoilt.log; fail "a picture that is none"; }
[ -n "$(scores out/spoilt)" ] && fail "a score of nothing"
rm data/images/text.png

# A benchmark of several files, and a variant of its prompts: as eval asks them.
for split in random popular; do
  for i in 1 2; do echo "{\"question_id\": $i, \"image\": \"$i.png\", \"text\": \"Is there a $split $i in the image?\", \"label\": \"yes\"}"; done >coco_pope_$split.json
done
pope="--set evaluate.every=8 --set evaluate.image_root=data/images --set evaluate.task=pope --set evaluate.max_new_tokens=4 --set train.steps=8"
files="[coco_pope_random.json, coco_pope_popular.json]"
run train tune.yaml --set output=out/pope $pope --set "evaluate.questions=$files" --set "evaluate.references=$files" >pope.log 2>&1 || { cat pope.log; fail "pope while training"; }
[ "$(jq -r .question_id out/pope/eval/step_00000008.jsonl | tr '\n' ' ')" = "random/1 random/2 popular/1 popular/2 " ] || fail "two files of questions: $(cat out/pope/eval/*)"
jq -n '{data: [{question_id: 5, image_id: "1", question: "what?", answers: [range(10) | "dakota"]}]}' >text.json && cp data/images/1.png data/images/1.jpg
run train tune.yaml --set output=out/textvqa $pope --set evaluate.task=textvqa --set evaluate.variant=plain --set evaluate.questions=text.json --set evaluate.references=text.json >text.log 2>&1 ||
  { cat text.log; fail "textvqa while training"; }
jq -e '.question | startswith("What?\nAnswer")' out/textvqa/eval/step_00000008.jsonl >/dev/null || fail "a variant: $(cat out/textvqa/eval/*)"
rm data/images/1.jpg

# --plan: the questions are read and what they take is counted, pictures aside; or it is said that they are not.
plan() { run train tune.yaml --plan $evaluate "$@" >plan.txt 2>&1 || { cat plan.txt; fail "--plan $*"; }; }
size() { awk -v what="$1" 'index($0, what) { print $NF; exit }' plan.txt; }
plan && [ -n "$(size evaluation,)" ] || { cat plan.txt; fail "an evaluation's line"; }
run train tune.yaml --plan >none.txt 2>&1 && ! grep -q evaluation none.txt || fail "an evaluation nobody asked for"
plan --set evaluate.max_new_tokens=500000 --set evaluate.batch=40
one=$(size evaluation,) sum=$(size "all kept")
plan --set evaluate.max_new_tokens=500000 --set evaluate.batch=20
awk -v a="$one" -v b="$(size evaluation,)" -v s="$sum" -v t="$(size "all kept")" 'BEGIN { d = s - t - (a - b); exit !(a > 1.9 * b && b > 0.1 && d < 0.02 && d > -0.02) }' ||
  { cat plan.txt; fail "an evaluation of 40 questions takes $one GiB, sum $sum"; }
plan --set evaluate.questions=nowhere.jsonl && grep -q "evaluation .* not counted: .*nowhere.jsonl" plan.txt || { cat plan.txt; fail "questions that are not there"; }

refused 78 "evaluate.every asks for answers" train clip.yaml $evaluate
refused 78 "evaluate.questions names no file" train tune.yaml --set evaluate.every=3
refused 78 "evaluate.references names no file" train tune.yaml $evaluate --set evaluate.task=vqav2
refused 78 "is no task" train tune.yaml --set output=out/bad $evaluate --set evaluate.task=vqa --set evaluate.references=no.jsonl
refused 78 "evaluate.task: 'vqa' is no task" train tune.yaml --check $evaluate --set evaluate.task=vqa --set evaluate.references=no.jsonl
refused 78 "evaluate.variant: & 'x' is unknown; of task textvqa there are ocr, plain" train tune.yaml --check $evaluate --set evaluate.task=textvqa --set evaluate.references=no.jsonl --set evaluate.variant=x
refused 78 "evaluate.variant: task exact has no prompts" train tune.yaml --check $evaluate --set evaluate.variant=plain
[ -e out/bad ] && fail "a recipe that was refused left a folder"
refused 78 "less is better" train tune.yaml --set output=out/bad $evaluate --set evaluate.task=chair --set evaluate.references=no.jsonl
refused 78 "wants more than a recipe says" train tune.yaml --set output=out/bad $evaluate --set evaluate.task=refcoco --set evaluate.references=no.jsonl
echo '{' >broken.jsonl
refused 65 "evaluate & broken.jsonl" train tune.yaml --set output=out/bad $evaluate --set evaluate.references=broken.jsonl
LAUNCH=$two refused 65 "evaluate & broken.jsonl" train tune.yaml --set output=out/bad $evaluate --set evaluate.questions=broken.jsonl
leftovers
finish
