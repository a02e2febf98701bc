#!/usr/bin/env bash
# Samples with 0, 1, 2 and 3 pictures in one and in several turns, end to end: packed, verified, shown, trained on, probed, generated from and
# evaluated; where <image> goes follows the checkpoint; the template is saved for transformers.
. "$(dirname "$0")/common.inc"
make_data 12
cat >talks.jsonl <<'END'
{"id":"none","conversations":[{"from":"human","value":"Say yes."},{"from":"gpt","value":"yes"}]}
{"id":"one","image":"1.png","conversations":[{"from":"human","value":"What is it?\n<image>"},{"from":"gpt","value":"a shape"},{"from":"human","value":"Sure?"},{"from":"gpt","value":"yes"}]}
{"id":"two","image":["1.png","2.png"],"conversations":[{"from":"human","value":"Left <image> or right <image>, which one?"},{"from":"gpt","value":"left"}]}
{"id":"three","image":["1.png","2.png","3.png"],"conversations":[{"from":"human","value":"<image>\n<image>\nSame?"},{"from":"gpt","value":"no"},{"from":"human","value":"And <image>?"},{"from":"gpt","value":"no"}]}
{"id":"collapsed","image":"2.png","conversations":[{"from":"human","value":"<image> What is <image>?"},{"from":"gpt","value":"a shape"}]}
{"id":"lost","image":"2.png","conversations":[{"from":"human","value":"<image> and <image>"},{"from":"gpt","value":"x"},{"from":"human","value":"<image>"},{"from":"gpt","value":"y"}]}
END
run data pack --input talks.jsonl --image-root data/images --out shards/many --prefix m --max-bad-share 0.5 >pack.log 2>&1 || { cat pack.log; fail "pack"; }
grep -q 'packed 5 samples (1 text only' pack.log || { cat pack.log; fail "5 of 6 records are good"; }
grep -q '3 <image> placeholders but 1 images' shards/many/m-errors.jsonl || { cat shards/many/m-errors.jsonl; fail "the lost record"; }
run data verify shards/many/*.h5 >/dev/null || fail "verify"
run data tokenizer --vocab-size 300 --out chat.json shards/many/*.h5 >/dev/null 2>&1 || fail "tokenizer"
text() { run data show --tokenizer chat.json --system "" --image-tokens 16 --index "$1" --image-place "$2" --json shards/many | jq -r '.text, (.image_start | length)' | tr '\n' '~'; }
[ "$(text 3 front)" = '<s>USER: <image>~<image>~Same? ASSISTANT: no</s>USER: <image>~And ? ASSISTANT: no</s>~3~' ] || fail "front: $(text 3 front)"
[ "$(text 3 keep)" = '<s>USER: <image>~<image>~Same? ASSISTANT: no</s>USER: And <image>? ASSISTANT: no</s>~3~' ] || fail "keep: $(text 3 keep)"
[ "$(text 2 llava_next)" = '<s>USER: Left <image> or right <image>, which one? ASSISTANT: left</s>~2~' ] || fail "llava_next: $(text 2 llava_next)"
[ "$(text 4 front)" = '<s>USER: <image>~What is ? ASSISTANT: a shape</s>~1~' ] || fail "collapsed: $(text 4 front)"
run data show --tokenizer chat.json --image-place keep --index 4 shards/many >/dev/null 2>&1 && fail "keep takes two placeholders for one picture"

cat >many.yaml <<Y
stage: finetune
output: out/front
threads: 1
model:
  vit: {hidden: 32, layers: 2, heads: 2, inner: 64, patch: 8, image: 32, act: quick_gelu}
  llama: {hidden: 32, layers: 2, heads: 4, kv_heads: 2, head_dim: 8, inner: 64, positions: 256}
data: {shards: [shards/many], tokenizer: chat.json, template: v1, system: "Be brief.", image_fit: pad, max_tokens: 256, shuffle: no}
batch: {samples: 5, micro_tokens: 1024}
train: {steps: 2, log_every: 0}
optimizer: {lr: 1e-3}
Y
train() { run train many.yaml "$@" >train.log 2>&1 || { cat train.log; fail "train $*"; }; }
train
grep -q 'sample skipped' train.log && { cat train.log; fail "a sample is skipped"; }
train --set data.image_place=keep --set data.template=qwen --set output=out/keep
grep -q '4: 2 <image> placeholders but 1 pictures; sample skipped' train.log || { cat train.log; fail "keep skips the collapsed sample"; }
jq -e '.bifocal_template == "vicuna_v1" and .bifocal_image_place == "front"' out/front/step_00000002/config.json >/dev/null || fail "config.json of front"
jq -e '.bifocal_template == "chatml" and .bifocal_image_place == "keep"' out/keep/step_00000002/config.json >/dev/null || fail "config.json of keep"
jq -e '.chat_template | contains("ASSISTANT:") and contains("Be brief.")' out/front/step_00000002/tokenizer_config.json >/dev/null || fail "chat template"
jq -e --rawfile j out/front/step_00000002/chat_template.jinja '.chat_template == $j' out/front/step_00000002/tokenizer_config.json >/dev/null || fail "chat_template.jinja"

# The probe and the evaluation follow the checkpoint's place: its ids are those of data show.
head -5 talks.jsonl >five.jsonl
head -4 talks.jsonl >four.jsonl
ids() { # ids RUN SAMPLES OPTIONS...: of data show, end to end
  local at=$1 samples=$2
  shift 2
  run data show --tokenizer "$at" --system "Be brief." --image-tokens 16 --json "$@" "$samples" | jq -c '.ids[]' | tr '\n' ' '
}
for place in front keep; do
  at=out/$place/step_00000002
  samples=$([ $place = front ] && echo five.jsonl || echo four.jsonl)
  run probe $at $samples --image-root data/images --out $place.safetensors >/dev/null 2>probe.log || { cat probe.log; fail "probe $place"; }
done
count() { head -c 8 "$1" | od -An -tu8 | tr -d ' ' | { read -r n; tail -c +9 "$1" | head -c "$n"; } | jq '.input_ids.shape[0]'; }
[ "$(count front.safetensors)" = "$(ids out/front/step_00000002 five.jsonl --template vicuna_v1 | wc -w)" ] || fail "probe and data show differ in length: front"
[ "$(count keep.safetensors)" = "$(ids out/keep/step_00000002 four.jsonl --template chatml --image-place keep | wc -w)" ] || fail "probe and data show differ in length: keep"

run generate out/keep --image data/images/1.png --image data/images/2.png --prompt 'Left <image> or right <image>?' --max-new-tokens 3 --json >got 2>&1 || { cat got; fail "generate with two pictures"; }
run generate out/front --image data/images/1.png --image data/images/2.png --image data/images/3.png --prompt 'Same?' --max-new-tokens 3 >/dev/null 2>&1 || fail "generate with three pictures"
cat >questions.jsonl <<'END'
{"question_id":1,"question":"Say yes."}
{"question_id":2,"image":["1.png","2.png"],"question":"Left <image> or right <image>, which one?","answer":"left"}
{"question_id":3,"image":"2.png","question":"What?"}
{"question_id":4,"image":["1.png","2.png","3.png"],"question":"Same?"}
{"question_id":5,"image":["2.png"],"question":"What?"}
{"question_id":6,"image":[],"question":"Say yes."}
END
answers() { run eval out/keep --questions questions.jsonl --image-root data/images --out "p-$1.jsonl" --batch "$1" --max-new-tokens 4 >eval.log 2>&1 || { cat eval.log; fail "eval, batch $1"; }; }
answers 1
answers 4
diff p-1.jsonl p-4.jsonl || fail "the answers depend on the batch"
[ "$(jq -c .image p-1.jsonl | tr '\n' ' ')" = 'null ["1.png","2.png"] "2.png" ["1.png","2.png","3.png"] ["2.png"] [] ' ] || fail "images in the predictions"
[ "$(jq -r 'select(.question_id == 3 or .question_id == 5).prediction' p-1.jsonl | sort -u | wc -l)" -eq 1 ] || fail "a list of one picture is not the picture"
refused 65 '2 <image> placeholders but 1 pictures' generate out/keep --image data/images/1.png --prompt '<image> and <image>'
refused 78 'place of pictures' generate out/keep --image-place back --prompt x

# Stage 1 with a prompt: captions as conversations and bare ones, in both templates.
printf '%s\n' '{"id":"a","image":"1.png","conversations":[{"from":"human","value":"<image>\nDescribe the picture."},{"from":"gpt","value":"a shape"}]}' \
  '{"id":"b","image":"2.png","caption":"a shape"}' >captions.jsonl
run data pack --input captions.jsonl --image-root data/images --out shards/both --prefix c >/dev/null 2>&1 || fail "pack captions"
for template in plain vicuna_v1; do
  train --set 'data.shards=[shards/both]' --set stage=pretrain --set data.template=$template --set output=out/$template --set batch.samples=2
  grep -q 'sample skipped' train.log && { cat train.log; fail "template $template skips captions"; }
done
finish
