#!/usr/bin/env bash
# Questions and pictures out of shards: the answers are those of the same questions and pictures as files, the file of predictions is the same for
# any ranks, batch and order of shards; CLIP's pairs; an evaluation while a run trains.
. "$(dirname "$0")/common.inc"
make_data 24
for stage in clip lm pretrain finetune; do
  run train $stage.yaml --set train.steps=60 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
ask() { # ask OUT OPTIONS...: predictions in OUT.jsonl, the summary in OUT.json
  local out=$1
  shift
  run eval out/finetune --threads 1 --max-new-tokens 6 --overwrite --out $out.jsonl --summary $out.json "$@" >$out.log 2>&1 || { cat $out.log; fail "$out: exit $?"; }
}
answers() { jq -c '[(.question_id | tostring), .prediction, .answer]' "$1" | sort; }

# Captions: the same pictures, prompt and answers as a file of questions.
jq -c '{question_id: .id, image, question: "what color is the square?", answer: .caption}' data/captions.jsonl >captions.jsonl
ask files --questions captions.jsonl --image-root data/images
ask shards --shards shards/captions --prompt "what color is the square?"
[ "$(wc -l <shards.jsonl)" -eq 24 ] && diff <(answers files.jsonl) <(answers shards.jsonl) || fail "captions: other answers than of files"
[ "$(jq -r .prediction shards.jsonl | sort -u | wc -l)" -gt 2 ] || fail "the answers hardly differ"
jq -es 'map(.image) | all(test("^[0-9a-f]{32}$")) and (unique | length > 20)' shards.jsonl >/dev/null || fail "pictures are named by their contents"

# Conversations: each human turn is asked, and the turns before it matter.
jq -c '.conversations as $c | .id as $id | range(0; $c | length; 2) | [(if . == 0 then $id else "\($id)#\(. / 2 + 1)" end), $c[. + 1].value,
  ($c[.].value | if test("^<image>\n[^<]*$") then ltrimstr("<image>\n") else . end)]' data/conversations.jsonl | sort >turns
ask talks --shards shards/talks
diff turns <(jq -c '[.question_id, .answer, .question]' talks.jsonl | sort) || fail "the questions of conversations"
jq -c 'select((.image | type) == "string") | {question_id: .id, image, question: (.conversations[0].value | ltrimstr("<image>\n")), answer: .conversations[1].value}' \
  data/conversations.jsonl >asked-first.jsonl
ask first --questions asked-first.jsonl --image-root data/images
diff <(answers first.jsonl) <(answers talks.jsonl | grep -F -f <(jq -r '"[\"\(.question_id)\","' asked-first.jsonl)) || fail "first turns: other answers than of files"
sed 's/"value":"red"/"value":"mauve"/; s/"value":"green"/"value":"mauve"/' data/conversations.jsonl >mauve.jsonl
run data pack --input mauve.jsonl --image-root data/images --out shards/mauve --prefix s >mauve.log 2>&1 || fail "pack"
ask mauve --shards shards/mauve
diff <(jq -c .question talks.jsonl | sort) <(jq -c .question mauve.jsonl | sort) >/dev/null || fail "mauve: other questions"
[ "$(jq -r .prompts mauve.json)" != "$(jq -r .prompts talks.json)" ] || fail "the answers before a question are not in its prompt"
[ "$(jq -r .identity.questions mauve.json)" != "$(jq -r .identity.questions talks.json)" ] || fail "other shards, the same fingerprint"

# What was asked of shards is scored by itself, and a page shows its pictures, by their contents.
run score exact talks.jsonl --references talks.jsonl --items items.jsonl --json >scores.json 2>score.log || { cat score.log; fail "score"; }
run report --out page --shards shards/captions --shards shards/talks talks=scores.json >report.log 2>&1 || { cat report.log; fail "report"; }
jq -e --slurpfile e talks.json '.metrics[0].value / 100 - $e[0].accuracy | fabs < 1e-9' scores.json >/dev/null || fail "score of shards' answers"
[ "$(grep -c 'data:image/jpeg' page/report.html)" -gt 10 ] && ! grep -q 'class="none"' page/report.html || fail "pictures of the page: $(grep -c 'data:image/jpeg' page/report.html)"

# Any ranks, batch, order and place of shards. Both shards are called s-00000.h5 and have the ids 0, 1, ...
ask both --shards shards/captions --shards shards/talks --prompt "what is it?"
[ "$(jq -r .question_id both.jsonl | sort -u | wc -l)" -eq "$(wc -l <both.jsonl)" ] && jq -r .question_id both.jsonl | grep -q '^s-00000.h5@[0-9a-f]\{8\}:7$' ||
  fail "ids: $(jq -r .question_id both.jsonl | head -n 3)"
mkdir moved && cp shards/talks/s-00000.h5 moved/a.h5 && cp shards/captions/s-00000.h5 moved/b.h5
for way in "1 7 --shards shards/talks --shards shards/captions" "2 64 --shards shards/captions --shards shards/talks/s-00000.h5" "3 1 --shards shards/talks/s-00000.h5 --shards shards/captions"; do
  set -- $way
  n=$1 batch=$2
  shift 2
  ranks $n eval out/finetune "$@" --prompt "what is it?" --threads 1 --max-new-tokens 6 --batch $batch --overwrite --out again.jsonl >again.log 2>&1 || { cat again.log; fail "$n ranks"; }
  cmp both.jsonl again.jsonl || fail "$n ranks, batch $batch: another file"
done
ask moved --shards moved --prompt "what is it?"
diff <(jq -c '[.image, .question, .prediction]' both.jsonl) <(jq -c '[.image, .question, .prediction]' moved.jsonl) >/dev/null || fail "moved shards: other answers"
ask limit --shards shards/captions --shards shards/talks --prompt "what is it?" --limit 9
cmp <(head -n 9 both.jsonl) limit.jsonl || fail "--limit: other lines"
ask blank --shards shards/captions --shards shards/talks --prompt "what is it?" --ablate image=shuffle
cmp -s <(jq -c .prediction limit.jsonl) <(head -n 9 blank.jsonl | jq -c .prediction) && fail "pictures are not shuffled"

# Questions as a file, pictures in shards: by the samples' ids, with or without folder and extension.
ask byname --questions data/questions.jsonl --shards shards/captions
ask byfile --questions data/questions.jsonl --image-root data/images
cmp byname.jsonl byfile.jsonl || fail "pictures of shards by name: other answers"
sed '3s/"image":"2.png"/"image":"gone\/99.png"/' data/questions.jsonl >gone.jsonl
refused 65 "gone.jsonl:3: no sample & gone/99.png" eval out/finetune --questions gone.jsonl --shards shards/captions --out x.jsonl
LAUNCH=$two refused 65 "gone.jsonl:3: no sample & gone/99.png" eval out/finetune --questions gone.jsonl --shards shards/captions --out x.jsonl
jq -c 'if .id == "3" then .id = "2" else . end' data/captions.jsonl >twice.jsonl
run data pack --input twice.jsonl --image-root data/images --out shards/twice --prefix s >>mauve.log 2>&1 || fail "pack"
refused 65 "questions.jsonl:3: samples of the shards with different pictures & 2.png" eval out/finetune --questions data/questions.jsonl --shards shards/twice --out x.jsonl
ask ids --shards shards/twice --prompt "what is it?"
[ "$(jq -r .question_id ids.jsonl | sed -n 2,5p | tr '\n' ' ')" = "1 s-00000.h5:2 s-00000.h5:3 4 " ] || fail "repeated ids: $(jq -r .question_id ids.jsonl | head -n 5)"
refused 65 "is a caption & --prompt" eval out/finetune --shards shards/captions --out x.jsonl
refused 64 "--questions or --shards" eval out/finetune --out x.jsonl
refused 64 "--image-root does not go with --shards" eval out/finetune --shards shards/talks --image-root data --out x.jsonl
refused 64 "--task wants --questions" eval out/finetune --shards shards/talks --task vqav2 --out x.jsonl
refused 64 "--prompt is for captions" eval out/finetune --questions data/questions.jsonl --prompt x --out x.jsonl
refused 65 "no shards" eval out/finetune --shards data --out x.jsonl
# A picture whose bytes decayed: which sample, which image.
mkdir decayed && cp shards/captions/s-00000.h5 decayed/ && at=$(LC_ALL=C grep -obUa IDAT decayed/s-00000.h5 | sed -n 5p | cut -d: -f1)
printf 'xxxx' | dd of=decayed/s-00000.h5 bs=1 seek=$((at + 6)) conv=notrunc 2>/dev/null
refused 65 "decayed/s-00000.h5: & image 4 & checksum" eval out/finetune --shards decayed --prompt x --out x.jsonl --threads 1

# Ids that are no text: the sample is named by its place.
at=$(LC_ALL=C grep -obUa 0123456789101112 shards/captions/s-00000.h5 | head -n 1 | cut -d: -f1)
mkdir odd && cp shards/captions/s-00000.h5 odd/$'odd\377.h5' && printf '\377\0' | dd of=odd/$'odd\377.h5' bs=1 seek=$((at + 5)) conv=notrunc 2>/dev/null
ask odd --shards odd --prompt x
jq -r .question_id odd.jsonl | sed -n 5,8p | tr '\n' ' ' | grep -q '^4 @[0-9a-f]\{8\}:5 @[0-9a-f]\{8\}:6 7 $' || fail "ids that are no text: $(jq -c .question_id odd.jsonl | sed -n 5,8p)"

# CLIP's pairs, and its classes.
score() { jq -S 'del(.seconds, .peak_rss_mib)' "$1"; }
run retrieval out/clip --pairs data/captions.jsonl --image-root data/images --summary pairs.json >pairs.log 2>&1 || { cat pairs.log; fail "retrieval"; }
ranks 2 retrieval out/clip --shards shards/captions --summary pairs-shards.json >pairs.log 2>&1 || { cat pairs.log; fail "retrieval --shards"; }
diff <(score pairs.json) <(score pairs-shards.json) || fail "retrieval of shards"
run zeroshot out/clip --classes data/classes.txt --images data/labels.jsonl --image-root data/images --summary zero.json >zero.log 2>&1 || { cat zero.log; fail "zeroshot"; }
run zeroshot out/clip --classes data/classes.txt --shards shards/captions --summary zero-shards.json >zero.log 2>&1 || { cat zero.log; fail "zeroshot --shards"; }
diff <(score zero.json) <(score zero-shards.json) || fail "zeroshot of shards"
refused 65 "shards/talks/s-00000.h5: & a pair is one picture" retrieval out/clip --shards shards/talks
head -n 3 data/classes.txt >three.txt
refused 65 "the caption 'a white square'" zeroshot out/clip --classes three.txt --shards shards/captions
refused 64 "takes the place of --pairs" retrieval out/clip --shards shards/captions --pairs data/captions.jsonl

# While a run trains: eval's answers of that checkpoint, scored against the shards' own.
run train finetune.yaml --set output=out/live --set train.steps=6 --set evaluate.every=3 --set evaluate.shards=shards/captions \
  --set evaluate.prompt="what is it?" --set evaluate.max_new_tokens=6 >live.log 2>&1 || { cat live.log; fail "train"; }
run eval out/live/step_00000006 --shards shards/captions --prompt "what is it?" --threads 1 --max-new-tokens 6 --overwrite --out again.jsonl --summary again.json >again.log 2>&1 || fail "eval"
cmp again.jsonl out/live/eval/step_00000006.jsonl || fail "answers while training"
jq -es --slurpfile e again.json 'map(select(.split == "eval" and .step == 6))[0] | (.metrics.accuracy / 100 - $e[0].accuracy | fabs) < 1e-9' out/live/metrics.jsonl >/dev/null ||
  fail "the score while training"
[ "$(wc -l <out/live/eval/references.jsonl)" -eq 24 ] || fail "the references"
refused 78 "evaluate.shards no shards" train finetune.yaml --set evaluate.every=3
leftovers
finish
