#!/usr/bin/env bash
# zeroshot with templates, retrieval and linear-probe: the same scores on any number of ranks, and what a small pair of towers that has learnt its
# pictures must give; wrong files are named.
. "$(dirname "$0")/common.inc"
make_data 60
run train clip.yaml --set train.steps=150 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >clip.log 2>&1 || { cat clip.log; fail "clip"; finish; }
printf 'red\ngreen\nblue\nwhite\n' >names.txt
printf 'a {} square\na {c} square, and {} again\n{}\n' >templates.txt
sed 's/"a \(.*\) square"/"\1"/' data/labels.jsonl >labels.jsonl
head -n 40 labels.jsonl >train.jsonl
tail -n 20 labels.jsonl >test.jsonl
# Three captions a picture, in one line and in two.
jq -c '.caption as $c | {image, captions: [$c, $c + " on grey"]}, {image, caption: ("here is " + $c)}' data/captions.jsonl >pairs.jsonl
same() { diff <(jq -S 'del(.seconds, .peak_rss_mib)' "$1") <(jq -S 'del(.seconds, .peak_rss_mib)' "$2") || fail "$2: not the scores of $1"; }
scores() { # scores RANKS NAME VERB OPTIONS...
  ranks "$1" "$3" out/clip --image-root data/images --threads 1 --batch 7 --summary "$2-$1.json" "${@:4}" >"$2-$1.log" 2>&1 || { cat "$2-$1.log"; fail "$2 on $1 ranks"; finish; }
  same "$2-1.json" "$2-$1.json"
}
for n in 1 2 3; do
  scores $n zeroshot zeroshot --classes names.txt --templates templates.txt --images labels.jsonl
  scores $n bare zeroshot --classes data/classes.txt --images data/labels.jsonl
  scores $n retrieval retrieval --pairs pairs.jsonl
  scores $n probe linear-probe --classes names.txt --train train.jsonl --test test.jsonl
  scores $n given linear-probe --classes names.txt --train train.jsonl --test test.jsonl --validation test.jsonl --l2 0.5
done
jq -e '.classes == 4 and .templates == 3 and .images == 60 and .accuracy > 0.9 and .accuracy_per_class > 0.9 and .accuracy_top5 == 1' zeroshot-1.json >/dev/null ||
  fail "zero-shot: $(cat zeroshot-1.json)"
jq -e '.templates == 1 and .accuracy > 0.9' bare-1.json >/dev/null || fail "zero-shot by names alone: $(cat bare-1.json)"
# Fifteen pictures of a colour share their captions word by word, and ties count against what is looked for: nothing is found before the tenth.
jq -e '.images == 60 and .texts == 180 and .image_to_text."recall@1" == 0 and .text_to_image."recall@10" < 1 and
  .text_to_image."recall@10" >= .text_to_image."recall@5"' retrieval-1.json >/dev/null || fail "retrieval: $(cat retrieval-1.json)"
jq -e '.fitted == 40 and .images == 20 and .accuracy == 1 and .validation_accuracy == 1 and .gradient <= 1e-5' probe-1.json >/dev/null || fail "probe: $(cat probe-1.json)"
jq -e '.fitted == 60 and .l2 == 0.5 and .validation_accuracy == null' given-1.json >/dev/null || fail "probe of a given strength: $(cat given-1.json)"
# Distinct captions: every picture finds its own when each caption is the name of its own colour and there is one of a colour.
head -n 4 data/captions.jsonl >four.jsonl
scores 1 four retrieval --pairs four.jsonl
jq -e '.image_to_text."recall@1" == 1 and .text_to_image."recall@1" == 1' four-1.json >/dev/null || fail "four pairs: $(cat four-1.json)"

wrong() { refused "$1" "$2" "${@:3}" --image-root data/images; }
echo 'a square' >plain.txt
wrong 65 "plain.txt: template 'a square' has no {}" zeroshot out/clip --classes names.txt --templates plain.txt --images labels.jsonl
: >empty.txt
wrong 65 'empty.txt: holds no templates' zeroshot out/clip --classes names.txt --templates empty.txt --images labels.jsonl
echo '{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}' >long.txt
wrong 65 'names.txt: & tokens, limit 24' zeroshot out/clip --classes names.txt --templates long.txt --images labels.jsonl
awk 'NR == 9 { print "{\"image\":\"1.png\",\"caption\":[]}"; next } { print }' pairs.jsonl >broken.jsonl
LAUNCH=$two wrong 65 'broken.jsonl:9: no caption' retrieval out/clip --pairs broken.jsonl
awk 'NR == 9 { print "{\"image\":\"gone.png\",\"caption\":\"x\"}"; next } { print }' pairs.jsonl >broken.jsonl
LAUNCH=$two wrong 65 'broken.jsonl:9: & gone.png' retrieval out/clip --pairs broken.jsonl
wrong 64 "--l2: 'strong' is not a number of at least 0" linear-probe out/clip --classes names.txt --train train.jsonl --test test.jsonl --l2 strong
head -n 3 train.jsonl >few.jsonl
wrong 65 'few.jsonl: 3 pictures are too few' linear-probe out/clip --classes names.txt --train few.jsonl --test test.jsonl
finish
