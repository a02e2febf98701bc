#!/usr/bin/env bash
# eval, zeroshot, generate and probe with wrong input: the line of the file, the remedy, and no half-written predictions.
. "$(dirname "$0")/common.inc"
make_data 40
for stage in clip lm pretrain; do
  run train $stage.yaml --set train.steps=4 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
vlm=out/pretrain
asked() { # asked CODE TEXT [LAUNCH]: eval on broken.jsonl
  LAUNCH=${3:-} refused "$1" "$2" eval $vlm --questions broken.jsonl --image-root data/images --out p.jsonl --summary s.json --batch 4 --template "${template:-plain}" --restart
}
# line NUMBER TEXT: the questions with this line replaced.
line() { awk -v n="$1" -v text="$2" 'NR == n { print text; next } { print }' data/questions.jsonl >broken.jsonl; }
line 7 '{"question_id":7,"question":"what'
asked 65 'broken.jsonl:7: & not valid JSON'
asked 65 'broken.jsonl:7: & not valid JSON' "$two"
line 7 '["what"]'
asked 65 'broken.jsonl:7: is not a JSON object'
line 7 '{"image":"1.png","question":"what?"}'
asked 65 'broken.jsonl:7: question_id is missing'
line 7 '{"question_id":7,"image":"1.png"}'
asked 65 'broken.jsonl:7: & question'
line 7 '{"question_id":7,"image":["1.png",7],"question":"what?"}'
asked 65 'broken.jsonl:7: & image must be a name or a list of names'
line 7 '{"question_id":7,"question":"what?","answer":7}'
asked 65 'broken.jsonl:7: & answer'
line 7 '{"question_id":7,"question":"what?","answer":"x","type":"a name of a type that is longer than the table of scores takes"}'
asked 65 'broken.jsonl:7: type has'
line 7 "{\"question_id\":7,\"question\":\"$(printf 'what %.0s' $(seq 500))\"}"
template=vicuna_v1 asked 65 'broken.jsonl:7: & tokens'
# A picture that is missing, outside, no picture, or of an impossible size: the line is found on whichever rank meets it.
line 37 '{"question_id":7,"image":"gone.png","question":"what?"}'
asked 65 "broken.jsonl:37: there is no file 'gone.png'"
asked 65 "broken.jsonl:37: there is no file 'gone.png'" "$two"
line 37 '{"question_id":7,"image":"../captions.jsonl","question":"what?"}'
asked 65 "broken.jsonl:37: & without '..'"
cp data/captions.jsonl data/images/text.png
line 37 '{"question_id":7,"image":"text.png","question":"what?"}'
asked 65 'broken.jsonl:37: text.png: neither JPEG, PNG nor WebP'
base64 -d >data/images/huge.png <<<iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAAPsOIVAAAADElEQVR4nGNgoAwAAABAAAG3NHzvAAAAAElFTkSuQmCC
line 37 '{"question_id":7,"image":"huge.png","question":"what?"}'
asked 65 'broken.jsonl:37: huge.png: 60000x60000'
: >broken.jsonl
asked 65 'broken.jsonl: holds no questions'
asked 65 'broken.jsonl: holds no questions' "$two"
rm broken.jsonl
asked 74 "'broken.jsonl' & check the path"
absent p.jsonl 's.json*'
rm p.jsonl.part* # what was answered before the picture was met

# Files as editors on Windows write them are files like others; references are read before anything is asked.
asks() { run eval $vlm --image-root data/images --threads 1 "$@" >asks.log 2>&1 || { cat asks.log; fail "eval $*: exit $?"; }; }
{ printf '\xef\xbb\xbf'; sed 's/$/\r/' data/questions.jsonl; } >windows.jsonl
echo '{"question_id": 1' >broken-references.jsonl
asks --questions data/questions.jsonl --out unix-p.jsonl
asks --questions windows.jsonl --references windows.jsonl --out windows-p.jsonl
cmp unix-p.jsonl windows-p.jsonl || fail "line ends of Windows: other answers"
refused 74 "'no.jsonl' & check the path" eval $vlm --image-root data/images --questions data/questions.jsonl --references no.jsonl --out late.jsonl
LAUNCH=$two refused 65 "broken-references.jsonl" eval $vlm --image-root data/images --questions data/questions.jsonl --references broken-references.jsonl --out late.jsonl
absent 'late.jsonl*'
rm unix-p.jsonl windows-p.jsonl

# Arguments, checkpoints and outputs.
ask() { refused "$1" "$2" eval "$3" --questions data/questions.jsonl --image-root data/images --out "${4:-p.jsonl}"; }
ask 78 'checkpoint: there is no folder no-such-run' no-such-run
ask 78 'checkpoint: data holds neither' data
ask 64 'out/clip/step_00000004 is a CLIP pair' out/clip
ask 64 'questions.jsonl:1: has a picture, but out/lm/step_00000004 is a decoder alone' out/lm
ask 74 "--out no/p.jsonl: cannot write to the folder 'no' & check the path" $vlm no/p.jsonl
ask 64 '--out data: is a folder' $vlm data
LAUNCH=$two ask 64 'out/clip/step_00000004 is a CLIP pair' out/clip
LAUNCH=$two ask 78 'checkpoint: there is no folder no-such-run' no-such-run
refused 64 '--questions or --shards is missing & bifocal eval --help' eval $vlm --out p.jsonl
refused 64 "--batch: 'many'" eval $vlm --batch many
refused 64 'eval --help' eval $vlm --no-such-option
refused 74 'image root no-such & check the path' eval $vlm --questions data/questions.jsonl --image-root no-such --out p.jsonl
cp -r $vlm/step_00000004 hf && rm hf/MANIFEST.json hf/tokenizer.json
ask 74 'hf: no tokenizer.json' hf
refused 74 'no-such.json & check the path' eval $vlm --tokenizer no-such.json --questions data/questions.jsonl --out p.jsonl
mkdir disk
if mount -t tmpfs -o size=4k none disk 2>/dev/null; then
  ask 74 "disk/p.jsonl & No space left & free some space" $vlm disk/p.jsonl
  [ -z "$(ls -A disk)" ] || fail "left on the full disk: $(ls -A disk)"
  umount disk
else
  echo "no tmpfs can be mounted here: a full disk is not tested"
fi
# A random model answers with any bytes; the predictions are UTF-8 and JSON all the same, for any number of ranks.
run train lm.yaml --set train.steps=1 --set optimizer.lr=1e-9 --set model.llama.tied=no --set output=out/random >lm.log 2>&1 || { cat lm.log; fail "the random model"; }
for i in $(seq 40); do echo "{\"question_id\":$i,\"question\":\"$i times $((i * i))?\"}"; done >sums.jsonl
for np in 1 2; do
  ranks $np eval out/random --questions sums.jsonl --out p$np.jsonl --summary s$np.json --max-new-tokens 24 --batch 4 >eval.log 2>&1 || { cat eval.log; fail "eval on $np ranks"; }
done
cmp p1.jsonl p2.jsonl || fail "predictions depend on the number of ranks"
[ "$(wc -l <p1.jsonl)" -eq 40 ] || fail "$(wc -l <p1.jsonl) predictions"
iconv -f UTF-8 -t UTF-8 p1.jsonl >/dev/null || fail "predictions are not UTF-8"
grep -q $'\xEF\xBF\xBD' p1.jsonl || fail "no answer held a byte that is not UTF-8: the case was not met"

# zeroshot, generate, probe.
shot() { refused "$1" "$2" zeroshot out/clip --classes "${3:-data/classes.txt}" --images "${4:-data/labels.jsonl}" --image-root data/images --batch 4; }
echo one >one.txt
shot 65 'one.txt: holds 1 classes' one.txt
awk 'NR == 33 { print "{\"image\":\"1.png\",\"label\":\"a pink square\"}"; next } { print }' data/labels.jsonl >labels.jsonl
shot 65 'labels.jsonl:33: label is missing or not one of the 4 classes' data/classes.txt labels.jsonl
LAUNCH=$two shot 65 'labels.jsonl:33: label' data/classes.txt labels.jsonl
awk 'NR == 38 { print "{\"image\":\"gone.png\",\"label\":1}"; next } { print }' data/labels.jsonl >labels.jsonl
shot 65 'labels.jsonl:38: there is no file' data/classes.txt labels.jsonl
: >labels.jsonl
shot 65 'labels.jsonl: holds no pictures' data/classes.txt labels.jsonl
refused 64 'out/lm/step_00000004 is a decoder alone' zeroshot out/lm --classes data/classes.txt --images data/labels.jsonl
refused 65 "no file 'gone.png'" generate $vlm --prompt hi --image data/images/gone.png
refused 74 'no-such & check the path' generate $vlm --prompt hi --image no-such/gone.png
refused 64 'cannot look at pictures' generate out/lm --prompt hi --image data/images/1.png
refused 64 '--prompt is missing' generate $vlm
refused 64 "--precision: 'half' is unknown; use auto, fp32 or bf16" generate $vlm --prompt hi --precision half
refused 78 'precision is bf16, but the device (cpu & computes in fp32' generate $vlm --prompt hi --precision bf16
run generate out/random --json --max-new-tokens 30 --prompt "1 times 1?" >answer.json 2>generate.log || { cat generate.log; fail "generate"; }
[ "$(head -c 11 answer.json)" = '{"prompt":"' ] || { cat answer.json; fail "generate --json printed no object"; }
refused 74 "--out no/p.safetensors: cannot write to the folder 'no'" probe $vlm data/questions.jsonl --out no/p.safetensors
leftovers
finish
