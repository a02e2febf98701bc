#!/usr/bin/env bash
# Gets easy-VQA and writes it in the formats bifocal reads. Usage: easy_vqa.sh OUT [FOLDER]
#   FOLDER holds train/ and test/ with questions.json and images/ (a checkout's easy_vqa/data). Without it the package easy-vqa 1.0 is taken by
#   `pip download`, else the repository by `git clone`; either way a digest over all files is checked.
# Writes OUT/data (the files), OUT/captions.jsonl, OUT/dialogs.jsonl (text only), OUT/conversations.jsonl, OUT/validation.jsonl, OUT/test_questions.jsonl, OUT/classes.txt,
# OUT/test_labels.jsonl. Captions and conversations come from the train questions and answers alone.
set -euo pipefail
out=$1
source=${2:-}
digest=5a3e6cbf6a007e072a89234e01dd28879d0f87374490262f56abdeb011ac0754

files_digest() { (cd "$1" && find train test \( -name '*.json' -o -name '*.png' \) | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1); }

mkdir -p "$out"
if [ ! -d "$out/data" ]; then
  work=$(mktemp -d "$out/data.tmp-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if [ -n "$source" ]; then
    mkdir "$work/data"
    cp -r "$source/train" "$source/test" "$work/data/"
  elif python3 -m pip download -q easy-vqa==1.0 --no-deps -d "$work" >"$work/pip.log" 2>&1; then
    unzip -q "$work"/easy_vqa-1.0-*.whl 'easy_vqa/data/*' -d "$work/wheel"
    mv "$work/wheel/easy_vqa/data" "$work/data"
  elif git clone -q --depth 1 https://github.com/vzhou842/easy-VQA "$work/clone"; then
    mv "$work/clone/easy_vqa/data" "$work/data"
  else
    echo "easy_vqa.sh: neither pip nor git could fetch easy-VQA; download it elsewhere and set EASY_VQA_DIR to its folder easy_vqa/data" >&2
    exit 74
  fi
  found=$(files_digest "$work/data")
  if [ "$found" != "$digest" ]; then
    echo "easy_vqa.sh: the files have digest $found, wanted $digest; this is not easy-VQA 1.0" >&2
    exit 65
  fi
  chmod -R u+w "$work/data"
  mv "$work/data" "$out/data"
fi

# An image's colour and shape as far as its questions tell: named by an answer, or confirmed ("is there a red shape?" yes, "is no circle present?" no).
facts='
def colours: ["black","blue","brown","gray","green","red","teal","yellow"];
def shapes: ["circle","rectangle","triangle"];
def word($list): . as $q | first($list[] | select(. as $w | $q | test("\\b" + $w + "\\b"))) // null;
def negated: test("\\b(not|no)\\b");
def fact($list): [ .[] | . as [$q, $a] |
    if ($list | index($a)) then $a
    elif ($a == "yes" or $a == "no") then (if (($a == "yes") != ($q | negated)) then ($q | word($list)) else empty end)
    elif ($q | startswith("what")) then ($q | word($list))
    else empty end ] | map(select(. != null)) | .[0];
def by_image: group_by(.[2]) | map({image: .[0][2], qa: map([.[0], .[1]])});
def caption: (.qa | fact(colours)) as $c | (.qa | fact(shapes)) as $s |
    if $c and $s then "a \($c) \($s)" elif $c then "a \($c) shape" elif $s then "a \($s)" else null end;
'
# dialogs: all questions of an image in one conversation, in four orders, its caption standing where the image will: a decoder learns what questions mean,
# negations too, from text alone. conversations: one to five questions with the image; three passes cut them at different places, so that each stands first at times.
conversations='
def turns: map({from: "human", value: .[0]}, {from: "gpt", value: .[1]});
def dialogs: . as $x | caption as $caption | select($caption != null) | (.qa | length) as $n | range(4) as $pass |
    [range($n) | $x.qa[(. + $pass * 3) % $n]] | (if $pass % 2 == 1 then reverse else . end) | {id: "\($x.image)-\($pass)", conversations: (turns | .[0].value = $caption + "\n" + .[0].value)};
def records($pass): . as $x | (.qa | length) as $n | [range($n) | $x.qa[(. + $pass * 3) % $n]] as $q |
    def cut: if length == 0 then empty else (1 + (length + $pass + $x.image) % 5) as $k | .[:$k], (.[$k:] | cut) end;
    $q | cut | {id: "\($x.image)-\($pass)", image: "\($x.image).png",
      conversations: (turns | .[0].value = "<image>\n" + .[0].value)};
'
train=$out/data/train/questions.json
test=$out/data/test/questions.json
write() { mv "$1.tmp" "$1"; }
jq -c "$facts"' by_image[] | select(caption) | {id: "\(.image)", image: "\(.image).png", caption: caption}' "$train" >"$out/captions.jsonl.tmp"
write "$out/captions.jsonl"
jq -c "$facts$conversations"' by_image[] | select(.image % 40 != 0) | dialogs' "$train" >"$out/dialogs.jsonl.tmp"
write "$out/dialogs.jsonl"
jq -c "$facts$conversations"' by_image[] | select(.image % 40 != 0) | records(0), records(1), records(2)' "$train" >"$out/conversations.jsonl.tmp"
write "$out/conversations.jsonl"
jq -c "$facts$conversations"' by_image[] | select(.image % 40 == 0) | records(0)' "$train" >"$out/validation.jsonl.tmp"
write "$out/validation.jsonl"
jq -c 'to_entries[] | .key as $i | .value as [$q, $a, $image] | {question_id: $i, image: "\($image).png", question: $q, answer: $a,
    type: (if $a == "yes" or $a == "no" then $a elif (["circle","rectangle","triangle"] | index($a)) then "shape" else "colour" end)}' \
  "$test" >"$out/test_questions.jsonl.tmp"
write "$out/test_questions.jsonl"
jq -rn "$facts"' colours[] as $c | shapes[] as $s | "a \($c) \($s)"' >"$out/classes.txt.tmp"
write "$out/classes.txt"
# Labels of the test images, from the test questions; used for scoring only.
jq -c "$facts"' by_image[] | caption as $c | select($c != null and ($c | test("^a [a-z]+ (circle|rectangle|triangle)$"))) | {image: "\(.image).png", label: $c}' \
  "$test" >"$out/test_labels.jsonl.tmp"
write "$out/test_labels.jsonl"
