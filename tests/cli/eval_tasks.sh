#!/usr/bin/env bash
# eval --task: each benchmark's own question files become LLaVA's prompts (written out here by hand), pictures are found where the benchmarks have them,
# and what comes out is scored against the benchmark's references with no question missing or unknown. eval --rank: the likeliest option.
. "$(dirname "$0")/common.inc"
make_data 24
for stage in clip lm pretrain finetune; do
  run train $stage.yaml --set train.steps=60 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
mkdir pics
S='Answer the question using a single word or phrase.'
L="Answer with the option's letter from the given choices directly."
picture() { mkdir -p "pics/$(dirname "$1")" && cp "data/images/${2:-1}.png" "pics/$1"; }
# task NAME LAUNCH OPTIONS... -- REFERENCES...: predictions in p.jsonl, and asked: id, picture and prompt of each line.
task() {
  local name=$1 launch=$2 options=() references=()
  shift 2
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  for reference; do references+=(--references "$reference"); done
  $launch "$program" eval out/finetune --task "$name" "${options[@]}" "${references[@]}" --max-new-tokens 4 --threads 1 --overwrite --out p.jsonl --summary s.json >task.log 2>&1 ||
    { cat task.log; fail "$name: exit $?"; return; }
  jq -c '[.question_id, .image, .question]' p.jsonl >asked
  jq -e --arg task "$name" '.task == $task and (.prompts | length == 32) and .identity.questions != null' s.json >/dev/null || fail "$name: summary $(cat s.json)"
  [ ${#references[@]} -eq 0 ] || jq -e --arg task "$name" --argjson n "${not_asked:-0}" '.scored_as == $task and .not_asked == $n and (.metrics | length > 0)' s.json >/dev/null ||
    { cat task.log; fail "$name: not scored: $(cat s.json)"; }
}
wants() { diff - asked >diff.txt || { cat diff.txt; fail "$1: other prompts"; }; }

# VQAv2 and OK-VQA: the subset's name behind the questions, too.
echo '{"questions":[{"image_id":42,"question":"What is it?","question_id":42000},{"image_id":581929,"question":"Is it \"red\"?","question_id":581929001}],"data_subtype":"val2014"}' >vqa.json
jq '.data_subtype = "test-dev2015"' vqa.json >vqa-test.json
answers() { jq -n '[range(10) | {answer: (if . < 5 then "red" else "yes" end), answer_id: (. + 1)}]'; }
jq -n --argjson a "$(answers)" '{annotations: [{question_id: 42000, image_id: 42, question_type: "what", answer_type: "other", answers: $a}, {question_id: 581929001, image_id: 581929, question_type: "is", answer_type: "yes/no", answers: $a}]}' >vqa-answers.json
for n in val2014 test2015; do picture COCO_${n}_000000000042.jpg 2; picture COCO_${n}_000000581929.jpg 3; done
task vqav2 "$two" --questions vqa.json --image-root pics -- vqa-answers.json
wants vqav2 <<T
[42000,"COCO_val2014_000000000042.jpg","What is it?\n$S"]
[581929001,"COCO_val2014_000000581929.jpg","Is it \"red\"?\n$S"]
T
task vqav2 "" --questions vqa-test.json --image-root pics --
wants vqav2 <<T
[42000,"COCO_test2015_000000000042.jpg","What is it?\n$S"]
[581929001,"COCO_test2015_000000581929.jpg","Is it \"red\"?\n$S"]
T
task okvqa "" --questions vqa.json --image-root pics -- vqa-answers.json
wants okvqa <<T
[42000,"COCO_val2014_000000000042.jpg","What is it?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n$S"]
[581929001,"COCO_val2014_000000581929.jpg","Is it \"red\"?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n$S"]
T
# TextVQA: OCR tokens from a file of their own, or none.
jq -n '{data: [{question_id: 34602, image_id: "003a8ae2ef43b901", question: "what is the brand of this camera?", answers: [range(10) | "dakota"]},
  {question_id: 34603, image_id: "4b2a", question: "what time is it?", answers: [range(10) | "ten"]}]}' >text.json
echo '{"data":[{"image_id":"4b2a","ocr_tokens":[]},{"image_id":"003a8ae2ef43b901","ocr_tokens":["DAKOTA","DIGITAL","5"]}]}' >ocr.json
picture 003a8ae2ef43b901.jpg; picture 4b2a.jpg
task textvqa "" --questions text.json --questions ocr.json --image-root pics -- text.json
wants textvqa <<T
[34602,"003a8ae2ef43b901.jpg","What is the brand of this camera?\nReference OCR token: DAKOTA, DIGITAL, 5\n$S"]
[34603,"4b2a.jpg","What time is it?\nReference OCR token: \n$S"]
T
task textvqa "" --questions text.json --variant plain --image-root pics -- text.json
wants "textvqa plain" <<T
[34602,"003a8ae2ef43b901.jpg","What is the brand of this camera?\n$S"]
[34603,"4b2a.jpg","What time is it?\n$S"]
T
jq -e '.variant == "plain"' s.json >/dev/null && grep -q 'prompts plain (' task.log || fail "the variant is not said: $(cat task.log)"
# Whose rules: the task's own, or as it is said.
task textvqa "" --questions text.json --variant plain --image-root pics --norm official -- text.json
jq -e '.norm == "official"' s.json >/dev/null && grep -q 'norm official' task.log || fail "--norm official: $(cat s.json)"
# VizWiz: a picture is an id.
jq -n --argjson a "$(answers)" '[{image: "VizWiz_val_00000001.jpg", question: "Is this RED?", answer_type: "other", answerable: 1, answers: $a}]' >vizwiz.json
picture VizWiz_val_00000001.jpg
task vizwiz "" --questions vizwiz.json --image-root pics -- vizwiz.json
wants vizwiz <<T
["VizWiz_val_00000001.jpg","VizWiz_val_00000001.jpg","Is this RED?\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n$S"]
T
# GQA
jq -n '{"201307251": {question: "Is it overcast?", answer: "no", imageId: "n161313", isBalanced: true, types: {structural: "verify", semantic: "attr", detailed: "x"}, semantic: []},
  "05515938": {question: "Who is it?", answer: "man", imageId: "n235859", isBalanced: true, types: {structural: "query", semantic: "rel", detailed: "x"}, semantic: []}}' >gqa.json
picture n161313.jpg; picture n235859.jpg
task gqa "" --questions gqa.json --image-root pics -- gqa.json
wants gqa <<T
[201307251,"n161313.jpg","Is it overcast?\n$S"]
["05515938","n235859.jpg","Who is it?\n$S"]
T
# POPE: of several files the ids are SPLIT/question_id.
for split in random popular; do
  for i in 1 2; do echo "{\"question_id\": $i, \"image\": \"COCO_val2014_000000000042.jpg\", \"text\": \"Is there a $split $i in the image?\", \"label\": \"$([ $i = 1 ] && echo yes || echo no)\"}"; done >coco_pope_$split.json
done
task pope "" --questions coco_pope_random.json --questions coco_pope_popular.json --image-root pics -- coco_pope_random.json coco_pope_popular.json
wants pope <<T
["random/1","COCO_val2014_000000000042.jpg","Is there a random 1 in the image?\n$S"]
["random/2","COCO_val2014_000000000042.jpg","Is there a random 2 in the image?\n$S"]
["popular/1","COCO_val2014_000000000042.jpg","Is there a popular 1 in the image?\n$S"]
["popular/2","COCO_val2014_000000000042.jpg","Is there a popular 2 in the image?\n$S"]
T
task pope "" --questions coco_pope_random.json --image-root pics -- coco_pope_random.json
[ "$(jq -c .question_id p.jsonl | tr '\n' ' ')" = "1 2 " ] || fail "pope: ids of one file"
# MME: the release's folder, in both of its layouts.
mkdir -p mme/existence mme/OCR/images mme/OCR/questions_answers_YN
printf 'Is there a cat in this image? Please answer yes or no.\tYes\nIs there a dog in this image? Please answer yes or no.\tNo\n' >mme/existence/000000006040.txt
printf 'Is it "hot"? Please answer yes or no.\tNo\nIs it cold?  Please answer yes or no.\tYes\n' >mme/OCR/questions_answers_YN/0001.txt
cp data/images/1.png mme/existence/000000006040.jpg
cp data/images/2.png mme/OCR/images/0001.png
task mme "$two" --questions mme -- mme
wants mme <<T
["existence/000000006040\nIs there a cat in this image?","existence/000000006040.jpg","Is there a cat in this image?\n$S"]
["existence/000000006040\nIs there a dog in this image?","existence/000000006040.jpg","Is there a dog in this image?\n$S"]
["OCR/0001\nIs it \"hot\"?","OCR/images/0001.png","Is it \"hot\"?\n$S"]
["OCR/0001\nIs it cold?","OCR/images/0001.png","Is it cold?\n$S"]
T
# ScienceQA: the test split in its order, with and without a picture.
jq -n '{"4": {question: "Which?", choices: ["one", "two"], answer: 0, hint: "", image: null, split: "test", subject: "natural science", grade: "grade2"},
  "5": {question: "Where?", choices: ["here", "there", "nowhere"], answer: 2, hint: "Look at it.", image: "image.png", split: "test", subject: "social science", grade: "grade8"},
  "6": {question: "When?", choices: ["now"], answer: 0, hint: "", image: null, split: "train", subject: "natural science", grade: "grade2"}}' >problems.json
echo '{"train": ["6"], "test": ["5", "4"]}' >pid_splits.json
picture 5/image.png
task scienceqa "" --questions problems.json --questions pid_splits.json --image-root pics -- problems.json pid_splits.json
wants scienceqa <<T
[5,"5/image.png","Context: Look at it.\nWhere?\nA. here\nB. there\nC. nowhere\n$L"]
[4,null,"Which?\nA. one\nB. two\n$L"]
T
not_asked=1 task scienceqa "" --questions problems.json --variant image --image-root pics -- problems.json pid_splits.json
[ "$(jq -c .question_id p.jsonl)" = 5 ] || fail "scienceqa image: $(cat p.jsonl)"
# MMBench: pictures in the table, one of them given by the index of another row.
{
  printf 'index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tl2-category\tsplit\n'
  printf '241\tWhich is right?\tThe hint.\tcat\tdog\tnan\t\tA\tx\t%s\ty\tdev\n' "$(base64 -w0 data/images/1.png)"
  printf '1000241\t"Which ""is"" right?"\tnan\tdog\tcat\t\t\tB\tx\t241\ty\tdev\n'
} >mmbench.tsv
task mmbench "" --questions mmbench.tsv -- mmbench.tsv
wants mmbench <<T
[241,"picture of row 241","The hint.\nWhich is right?\nA. cat\nB. dog\n$L"]
[1000241,"picture of row 241","Which \"is\" right?\nA. dog\nB. cat\n$L"]
T
# What LLaVA's script takes for no option and no hint: nan and none in any letters.
printf 'index\tquestion\thint\tA\tB\tC\tD\tanswer\timage\n7\tWhich?\tNONE\tcat\tdog\tnone\tnot asked\tA\t%s\n' "$(base64 -w0 data/images/1.png)" >none.tsv
task mmbench "" --questions none.tsv -- none.tsv
wants "mmbench, none" <<T
[7,"picture of row 7","Which?\nA. cat\nB. dog\n$L"]
T
task mmbench "" --questions mmbench.tsv --variant cn --limit 1 --
jq -e '.limit == 1' s.json >/dev/null || fail "--limit is not in the summary"
[ "$(jq -r .question p.jsonl | tail -n 1)" = "请直接回答选项字母。" ] || fail "mmbench cn: $(cat p.jsonl)"
# SEED: pictures only, unless videos are asked for; ranked options too.
jq -n '{questions: [{question_id: "101669", question: "How many?", data_id: "1454426_2591111986", data_type: "image", choice_a: "One", choice_b: "Two", choice_c: "Three", choice_d: "Four", answer: "A", question_type_id: 5},
  {question_id: "v13_1", question: "What happens?", data_id: "v1.webm", data_type: "video", choice_a: "a", choice_b: "b", choice_c: "c", choice_d: "d", answer: "B", question_type_id: 10}],
  question_type: {"Instance Counting": 5, "Action Recognition": 10}}' >seed.json
picture SEED-Bench-image/1454426_2591111986
picture SEED-Bench-video-image/v13_1.png
not_asked=1 task seed "" --questions seed.json --image-root pics -- seed.json
wants seed <<T
[101669,"SEED-Bench-image/1454426_2591111986","How many?\nA. One\nB. Two\nC. Three\nD. Four\n$L"]
T
task seed "" --questions seed.json --image-root pics --variant all --rank mean -- seed.json
jq -e '.prediction | test("^[A-D]$")' p.jsonl >/dev/null || fail "seed, ranked: $(cat p.jsonl)"
[ "$(wc -l <p.jsonl)" -eq 2 ] || fail "seed all: $(cat p.jsonl)"
[ "$(jq -r .question p.jsonl)" = $'How many?\nWhat happens?' ] || fail "seed, ranked, was asked without options: $(cat p.jsonl)"
jq -e '.identity.decoding == "options ranked by mean of log-probabilities"' s.json >/dev/null || fail "seed, ranked: $(cat s.json)"
# ChartQA, DocVQA, OCRBench: rows and tables.
echo '[{"imgname":"41699051005347.png","query":"How many?","label":"14"}]' >test_human.json
echo '[{"imgname":"multi_col_1.png","query":"What year?","label":"2019"}]' >test_augmented.json
picture 41699051005347.png; picture multi_col_1.png
task chartqa "" --questions test_human.json --questions test_augmented.json --image-root pics -- test_human.json test_augmented.json
wants chartqa <<'T'
["human/0","41699051005347.png","How many?\nAnswer the question with a single word."]
["augmented/0","multi_col_1.png","What year?\nAnswer the question with a single word."]
T
echo '{"data":[{"questionId":49153,"question":"What is it?","image":"documents/pybv0228_81.png","answers":["it"],"question_types":["x"]}]}' >doc.json
picture documents/pybv0228_81.png
task docvqa "" --questions doc.json --image-root pics -- doc.json
wants docvqa <<T
[49153,"documents/pybv0228_81.png","What is it?\n$S"]
T
printf 'index\tquestion\tanswer\timage\n7\tWhat is it?\t["it"]\t%s\n' "$(base64 -w0 data/images/3.png)" >DocVQA_VAL.tsv
task docvqa "" --questions DocVQA_VAL.tsv -- DocVQA_VAL.tsv
wants "docvqa table" <<T
[7,"picture of row 7","What is it?\n$S"]
T
echo '[{"dataset_name":"IIIT5K","id":0,"question":"what is written in the image?","image_path":"IIIT5K/0.png","answers":["CENTRE"],"type":"Regular Text Recognition"}]' >ocrbench.json
picture IIIT5K/0.png
task ocrbench "" --questions ocrbench.json --image-root pics -- ocrbench.json
wants ocrbench <<'T'
["IIIT5K/0","IIIT5K/0.png","what is written in the image?"]
T
# RefCOCO, captions, CHAIR.
echo '{"image":"COCO_val2014_000000000042.jpg","width":40,"height":30,"bbox":[0,0,20,10],"sent":"the left one"}' >refcoco.jsonl
task refcoco "" --questions refcoco.jsonl --image-root pics --box-space unit,padded -- refcoco.jsonl
wants refcoco <<'T'
[0,"COCO_val2014_000000000042.jpg","Please provide the bounding box coordinate of the region this sentence describes: the left one"]
T
echo '{"images":[{"id":42,"file_name":"COCO_val2014_000000000042.jpg"}],"annotations":[{"id":1,"image_id":42,"caption":"a red square"}]}' >captions.json
task caption "" --questions captions.json --image-root pics -- captions.json
wants caption <<'T'
[42,"COCO_val2014_000000000042.jpg","Provide a one-sentence caption for the provided image."]
T
task caption "" --questions captions.json --suffix "What is it?" --image-root pics -- captions.json
grep -qE 'prompts [a-z]+ with another suffix \([0-9a-f]{8}\), data [0-9a-f]{8}, ' task.log || fail "--suffix is not said: $(cat task.log)"
[ "$(jq -r .question p.jsonl)" = "What is it?" ] || fail "--suffix: $(cat p.jsonl)"
echo '{"images":[{"id":42,"file_name":"COCO_val2014_000000000042.jpg"}],"annotations":[]}' >instances.json
task chair "" --questions instances.json --image-root pics --

# easy-VQA as its repository has it.
echo '[["what shape does the image contain?", "circle", 7], ["is there a red shape?", "yes", 7], ["what color is the shape?", "red", 8]]' >easy.json
picture 7.png; picture 8.png
task easy-vqa "$two" --questions easy.json --image-root pics -- easy.json
wants easy-vqa <<'T'
[0,"7.png","what shape does the image contain?"]
[1,"7.png","is there a red shape?"]
[2,"8.png","what color is the shape?"]
T
echo '{"0": "Circle.", "1": "yes", "2": "blue"}' >easy_said.json
run score easy-vqa easy_said.json --references easy.json --json >easy_scores.json && jq -e '[.metrics[] | .name + "=" + (.value | round | tostring)] | contains(["accuracy=67", "accuracy/shape=100", "accuracy/yes=100", "accuracy/colour=0"])' easy_scores.json >/dev/null ||
  fail "easy-vqa: $(cat easy_scores.json)"

# A JSONL of one's own, scored as exact, and options ranked: any ranks and batch.
jq -c '. + {options: ["red", "green", "blue", "white", "a plain square on grey"]}' data/questions.jsonl >options.jsonl
for how in "1 64" "3 5"; do
  ranks ${how% *} eval out/finetune --questions options.jsonl --image-root data/images --rank sum --batch ${how#* } --threads 1 --references options.jsonl --out "rank-${how% *}.jsonl" \
    --summary rank.json >rank.log 2>&1 || { cat rank.log; fail "--rank sum"; }
done
cmp rank-1.jsonl rank-3.jsonl || fail "ranked options depend on ranks or batch"
[ "$(jq -r .prediction rank-1.jsonl | sort -u | wc -l)" -gt 1 ] || fail "ranking always says the same"
jq -e '.scored_as == "exact" and .scored == 24' rank.json >/dev/null || fail "rank: $(cat rank.json)"

# What is wrong is named.
bad() { refused "$1" "$2" eval out/finetune --image-root pics --out bad.jsonl "${@:3}"; }
echo '{"test": ["7"]}' >no-splits.json
echo '{"images":[]}' >no-images.json
sed 's/\t241\ty/\t242\ty/' mmbench.tsv >mmbench-bad.tsv
echo '{"question_id":1,"image":"5/image.png","text":"Is it?","category":"random"}' >llava_pope.jsonl
bad 64 "'vqa' is unknown; there are vqav2, okvqa" --task vqa --questions vqa.json
bad 64 "'x' is unknown; of task textvqa there are ocr, plain" --task textvqa --variant x --questions text.json
bad 64 '--variant and --suffix go with --task' --variant ocr --questions vqa.json
bad 65 'no ocr_tokens of picture 003a8ae2ef43b901 & --variant plain' --task textvqa --questions text.json
bad 65 'no "questions" in it' --task vqav2 --questions vqa-answers.json
bad 65 'problems.json: no problem 7' --task scienceqa --questions problems.json --questions no-splits.json
bad 65 'mmbench-bad.tsv:3: image is neither base64 nor the index' --task mmbench --questions mmbench-bad.tsv
bad 65 'leave --task out' --task pope --questions llava_pope.jsonl
bad 65 'has no options to rank' --rank sum --questions data/questions.jsonl
bad 65 'gqa.json:2: has no options to rank' --rank mean --task gqa --questions gqa.json
bad 64 '--norm: task caption has one rule alone' --norm lmms --task caption --questions captions.json --references captions.json
bad 64 '--norm goes with --references' --norm lmms --task gqa --questions gqa.json
echo '[["what?", "circle"]]' >easy-bad.json
bad 65 'easy-bad.json:1: & has 2 elements' --task easy-vqa --questions easy-bad.json
bad 64 '--rank takes the likeliest option and decodes nothing' --rank sum --beams 3 --questions options.jsonl
bad 64 '--rank takes the likeliest option and decodes nothing' --rank sum --temperature 1 --questions options.jsonl
bad 65 'ids must differ' --task gqa --questions gqa.json --questions gqa.json
bad 64 'wants --box-space' --task refcoco --questions refcoco.jsonl --references refcoco.jsonl
bad 65 'holds no questions of chair' --task chair --questions no-images.json
absent 'bad.jsonl*'
cp data/questions.jsonl same.jsonl && ln -s same.jsonl link.jsonl
refused 64 '--out link.jsonl: is read as well (same.jsonl)' eval out/finetune --image-root data/images --questions same.jsonl --out link.jsonl
refused 64 '--summary same.jsonl: is read as well' eval out/finetune --image-root data/images --questions data/questions.jsonl --references same.jsonl --out other.jsonl --summary same.jsonl
cmp -s data/questions.jsonl same.jsonl || fail "an input was replaced"
# Answers are what str.strip leaves, as LLaVA's scripts write them: no scorer sees the white space around.
for n in $(seq 30); do jq -c --arg n "$n" '.question_id = "\(.question_id)-\($n)"' data/questions.jsonl; done >many.jsonl
run eval out/finetune --questions many.jsonl --image-root data/images --temperature 2 --max-new-tokens 12 --threads 1 --out wild.jsonl >wild.log 2>&1 || { cat wild.log; fail "sampled"; }
[ "$(jq -r '.prediction | select(test("^\\s|\\s$"))' wild.jsonl | wc -l)" -eq 0 ] || fail "answers with white space around them"
[ "$(jq -c '.prediction | select(test("[a-z]\\s+[a-z]"))' wild.jsonl | wc -l)" -gt 0 ] || fail "no answer of several words: the test shows nothing"
# Answers that end for want of tokens are counted, over all ranks; ranked options have none.
run eval out/finetune --questions many.jsonl --image-root data/images --max-new-tokens 1 --threads 1 --overwrite --out cut.jsonl >cut1.log 2>&1 &&
  LAUNCH= ranks 2 eval out/finetune --questions many.jsonl --image-root data/images --max-new-tokens 1 --overwrite --out cut.jsonl >cut2.log 2>&1 || fail "answers of one token"
grep -q "^note: $(wc -l <many.jsonl) answers have all of the 1 tokens" cut1.log && grep -q "^note: $(wc -l <many.jsonl) answers have all of the 1 tokens" cut2.log ||
  { cat cut1.log cut2.log; fail "what is cut is not told"; }
run eval out/finetune --questions many.jsonl --image-root data/images --max-new-tokens 200 --threads 1 --overwrite --out cut.jsonl >cut1.log 2>&1
grep -q '^note:.*cut' cut1.log rank.log && fail "nothing is cut: $(cat cut1.log rank.log)"
# Names of files that are no UTF-8: nothing crashes, answers and scores have all their fields, and what an id is made of is told.
odd=$(printf 'odd\377')
cp -r data/images "$odd" && cp -r out/finetune "out/$odd" && cp data/questions.jsonl "$odd.jsonl"
jq -c '{question_id, answer}' data/questions.jsonl >right.jsonl
run eval "out/$odd" --questions "$odd.jsonl" --image-root "$odd" --out "$odd.out" --summary odd.json --threads 1 >odd.log 2>&1 || { cat odd.log; fail "names that are no UTF-8: exit $?"; }
jq -e '(.checkpoint | test("odd.xff/step_")) and (.identity.pictures | test("odd.xff, image=none$"))' odd.json >/dev/null || fail "odd names in the summary: $(cat odd.json)"
run score exact "$odd.out" --references right.jsonl --json >"s$odd.json" || fail "score of an odd name"
jq -e '.task == "exact" and (.predictions | test("odd.xff.out$"))' "s$odd.json" >/dev/null || fail "an odd name's scores: $(cat "s$odd.json")"
run report --out odd.report "it=s$odd.json" >odd.log && jq -e '.tasks[0].scores | length == 1' odd.report/report.json >/dev/null || { cat odd.log; fail "report of an odd name"; }
cp mme/existence/000000006040.txt "mme/existence/$odd.txt" && cp mme/existence/000000006040.jpg "mme/existence/$odd.jpg"
run eval out/finetune --task mme --questions mme --max-new-tokens 2 --threads 1 --out odd-mme.jsonl >odd.log 2>&1 || { cat odd.log; fail "MME, an odd name: exit $?"; }
jq -se 'map(select(.image == "existence/odd\\xff.jpg" and (.question_id | startswith("existence/odd\\xff\n")))) | length == 2' odd-mme.jsonl >/dev/null || { cat odd-mme.jsonl; fail "MME, an odd name"; }
rm "mme/existence/$odd."*
printf 'Is it h\377t? Please answer yes or no.\tNo\nIs it cold? Please answer yes or no.\tYes\n' >mme/OCR/questions_answers_YN/0001.txt
bad 65 'mme/OCR/questions_answers_YN/0001.txt:1: & not UTF-8' --task mme --questions mme
finish
