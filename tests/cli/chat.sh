#!/usr/bin/env bash
# chat: one turn says what generate says; in several turns, with pictures that come later, every answer is the model's most likely one behind the prompt
# that training would see (the saved conversation goes through probe). Commands, the end of the positions, and an interrupt.
. "$(dirname "$0")/common.inc"
make_data 24
for stage in clip lm pretrain finetune; do
  run train $stage.yaml --set train.steps=120 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
chat() { run chat out/finetune --threads 1 --max-new-tokens 24 "$@"; }
for i in 3 4 5; do
  said=$(echo "what color is the square?" | chat --image data/images/$i.png) || fail "chat: exit $?"
  [ "$said" = "$(run generate out/finetune --image data/images/$i.png --prompt "what color is the square?" --max-new-tokens 24 --threads 1)" ] && [ -n "$said" ] ||
    fail "picture $i: chat says '$said', generate something else"
done
# Several turns; the second picture comes with the third, two more with the fourth, placed by its text.
cat >talk.txt <<'T'
what color is the square?
is it red?

/image data/images/4.png
what color is the square?
/image data/images/5.png
/image data/images/6.png
compare <image> and <image> now
//is this a turn
/save talk.json
T
# Under another template a model of its own: of what another was trained on it says nothing sensible, and does not end.
# Pictures that nothing is said about are fitted as those of the first stage.
run train finetune.yaml --set output=out/fit --set data.image_fit=auto --set train.steps=1 >fit.log 2>&1 || { cat fit.log; fail "stage 2 with image_fit auto"; }
[ "$(jq -r .bifocal_image_fit out/fit/step_00000001/config.json)" = pad ] || fail "image_fit auto is not what model.init was trained with"
run train finetune.yaml --set output=out/llama_2 --set data.template=llama_2 --set train.steps=120 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >llama_2.log 2>&1 ||
  { cat llama_2.log; fail "llama_2 failed"; }
{ head -n 5 talk.txt && echo '/save talk.json'; } >short.txt # this one has nothing to say on four pictures
for case in llama_2.front finetune.front finetune.keep finetune.llava_next; do
  model=out/${case%.*} place=${case#*.} turns=talk.txt
  [ $model = out/finetune ] || turns=short.txt
  run chat $model --threads 1 --max-new-tokens 24 --image-place $place --image data/images/3.png <$turns >talk.out 2>talk.err || { cat talk.err; fail "$case: exit $?"; }
  [ "$(jq '.[0].conversations | length' talk.json)" -eq $((2 * $(grep -c '^[^/]\|^//' $turns))) ] || fail "$case: $(cat talk.json)"
  [ "$(jq -c '[.[0].image] | flatten | map(split("/")[-1])' talk.json)" = "$(jq -cnR '["3.png", (inputs | select(startswith("/image")) | split("/")[-1])]' $turns)" ] ||
    fail "$case: pictures"
  [ "$(jq -r '.[0].conversations[] | select(.from == "gpt").value' talk.json)" = "$(sed 's/ $//' talk.out)" ] || fail "$case: other answers are shown than saved"
  # An answer that was cut has no end of its own, so the model would not say its end.
  [ ! -s talk.err ] || { cat talk.err; fail "$case: an answer was cut"; }
  jq -c '.[]' talk.json >talk.jsonl
  run probe $model talk.jsonl --image-root . --image-place $place --out probe.safetensors >probe.log 2>&1 || { cat probe.log; fail "$case: probe"; }
  "$tools/tool_greedy" probe.safetensors >greedy.txt || { cat greedy.txt; fail "$case: answers that are not the model's"; }
done
jq -e '.[0].conversations[0].value == "<image>\nwhat color is the square?" and .[0].conversations[6].value == "compare <image> and <image> now" and
  .[0].conversations[8].value == "/is this a turn"' talk.json >/dev/null || fail "values: $(jq -c . talk.json)"
# What was said before counts, until it is forgotten.
printf '%s\n' "is it red?" /reset "/image data/images/3.png" "what color is the square?" | chat --image data/images/4.png | tail -n 1 >again
[ "$(cat again)" = "$(head -n 1 talk.out)" ] || [ "$(cat again)" = "$(echo "what color is the square?" | chat --image data/images/3.png)" ] || fail "/reset remembers"
printf '%s\n' "/system You are a sailor." "what color is the square?" "/save system.json" | chat >system.out || fail "/system: exit $?"
[ "$(cat system.out)" = "$(run generate out/finetune --system "You are a sailor." --prompt "what color is the square?" --max-new-tokens 24 --threads 1)" ] || fail "/system"
jq -e '.[0] | has("image") | not' system.json >/dev/null || fail "a conversation without pictures has some"
printf 'what color is the square?\r\n/quit\nnever said\n' | chat --image data/images/3.png >quit.out && [ "$(wc -l <quit.out)" -eq 1 ] || fail "/quit"
sampled() { printf 'describe the picture\nand what else?\n' | chat --image data/images/3.png --temperature 3 --seed "$1"; }
[ "$(sampled 1)" = "$(sampled 1)" ] && [ "$(sampled 1)" != "$(sampled 2)" ] || fail "--temperature and --seed"
run data pack --input talk.json --image-root . --out packed --prefix t >pack.log 2>&1 || { cat pack.log; fail "data pack refuses what was saved"; }
# A long answer is cut with a word about it, at the limit and at the end of the positions; then there is no place left.
run train lm.yaml --set output=out/raw --set train.steps=1 --set train.checkpoint_every=0 --set model.llama.positions=64 --set data.max_tokens=64 >raw.log 2>&1 ||
  { cat raw.log; fail "raw failed"; }
printf 'what?\n' | run chat out/raw --threads 1 --max-new-tokens 5 >cut.out 2>cut.err && grep -q 'cut: .*--max-new-tokens' cut.err || { cat cut.err; fail "the limit of an answer"; }
status=0
printf 'what?\nand then?\n' | run chat out/raw --threads 1 >cut.out 2>cut.err || status=$?
[ $status -eq 65 ] && grep -q "cut: the model's 64 positions are full" cut.err && grep -q 'tokens and the model 64 positions' cut.err || { cat cut.err; fail "the end of the positions: exit $status"; }
iconv -f UTF-8 -t UTF-8 cut.out >/dev/null || fail "what an untrained model says is not UTF-8"
# Ctrl-C ends the answer, not the program: the next turn is answered too. The answer takes a second or so; if the signal comes late, it is tried again.
run train lm.yaml --set output=out/slow --set train.steps=1 --set train.checkpoint_every=0 --set model.llama.positions=4096 >slow.log 2>&1 || { cat slow.log; fail "slow failed"; }
for try in 1 2 3 4 5 6 7 8; do
  rm -f in && mkfifo in
  "$program" chat out/slow --threads 1 --max-new-tokens 3000 <in >slow.out 2>slow.err &
  pid=$!
  exec 9>in
  echo 'what?' >&9
  until [ -s slow.out ] || ! kill -0 $pid 2>/dev/null; do sleep 0.02; done
  kill -INT $pid
  sleep 0.2
  printf '/save slow.json\n' >&9
  exec 9>&-
  status=0
  wait $pid || status=$?
  grep -q '(interrupted)' slow.err && break
done
[ $status -eq 0 ] && grep -q '(interrupted)' slow.err || { cat slow.err; fail "Ctrl-C: exit $status"; }
[ "$(jq -r '.[0].conversations[1].value' slow.json)" = "$(cat slow.out)" ] || fail "an interrupted answer is saved otherwise than shown"
# Refusals.
with() { printf '%s\n' "$1" >line.txt; shift; refused "$@" <line.txt; }
with '/image nowhere.png' 65 'nowhere.png' chat out/finetune --threads 1
with '/image' 64 '/image wants a file' chat out/finetune --threads 1
with '/quite' 64 "'/quite' is no command" chat out/finetune --threads 1
with '/save x.json' 64 'nothing to save' chat out/finetune --threads 1
with 'look at <image>' 65 '1 <image> placeholders but 0 pictures' chat out/finetune --threads 1
with $'a\xffb' 65 'not UTF-8' chat out/finetune --threads 1
refused 64 'is a decoder alone and cannot look at pictures' chat out/lm --image data/images/3.png --threads 1 </dev/null
refused 64 'name one checkpoint' chat
refused 65 'nowhere.png' chat out/finetune --image nowhere.png --threads 1 </dev/null
LAUNCH=$two refused 64 'one process' chat out/finetune --threads 1 </dev/null
absent x.json
leftovers
finish
