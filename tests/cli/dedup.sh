#!/usr/bin/env bash
# data dedup and data leak: planted duplicates are found for the right reason, policies and keep rules are told apart, near ones chain, the file is the
# same for any number of ranks and order of shards, and wrong command lines are refused.
. "$(dirname "$0")/common.inc"
"$tools/tool_fixture" data 40
# ID IMAGES CAPTION: a record; images are numbers with commas between.
record() {
  jq -nc --arg id "$1" --arg images "$2" --arg caption "$3" \
    '{id: $id, caption: $caption} + ($images | split(",") | map(. + ".png") | if . == [] then {} elif length == 1 then {image: .[0]} else {image: .} end)'
}
talk() {
  jq -nc --arg id "$1" --arg image "$2" --arg question "$3" --arg answer "$4" \
    '{id: $id, image: "\($image).png", conversations: [{from: "human", value: $question}, {from: "gpt", value: $answer}]}'
}
{
  record a0 0 "A red square on plain grey, alone"
  record a1 0 "a RED  square on plain grey, alone."     # the caption but for case, spaces and the stop
  record a2 0 "something else entirely, not a word the same"
  record b0 1 "A red square on plain grey, alone"       # another picture
  record c0 2 "the very same long caption of a picture, written down twice, once here"
  record c1 2 "the very same long caption of a picture, written down twice, once there"
  record d0 "3,4" "two of them"
  record d1 "4,3" "two of them"
  record d2 "3,3" "two of them"
  record d3 3 "two of them"
  record e0 "" "text alone, twice"
  record e1 "" "text alone, twice"
} >records.jsonl
{
  talk t0 5 $'<image>\nIs it red?' Yes
  talk t1 5 $'<image>\nIs it a square?' "Yes, it is"
  talk t2 5 $'Is it  RED?\n<image>' yes
} >>records.jsonl
# A picture that cannot be decoded, twice: the same file, but of unknown content.
head -c $(($(stat -c %s data/images/10.png) - 30)) data/images/10.png >data/images/90.png
{ record z0 90 "a broken picture"; record z1 90 "a broken picture"; } >>records.jsonl
run data pack --input records.jsonl --image-root data/images --out shards --prefix n --max-samples 4 >pack.log 2>&1 || { cat pack.log; fail "pack"; finish; }
[ "$(ls shards/*.h5 | wc -l)" -eq 5 ] || fail "not 5 shards: $(cat pack.log)"
mkdir same && cp shards/*.h5 same # without columns
run data hash --quiet shards || fail "hash: exit $?"
# dropped NAME ARGUMENTS: the dropped ids with what they duplicate, "a1>a0 ...", sorted
dropped() { # dropped EXPECTED ARGUMENTS...
  local expected=$1 got
  shift
  run data dedup --out got.sel --list got.jsonl --quiet "$@" shards >got.txt 2>got.log || { fail "$*: exit $?"; cat got.log; return; }
  got=$(jq -r '.sample.id + ">" + .other.id' got.jsonl | sort | tr '\n' ' ')
  [ "$got" = "$expected" ] || fail "$*: '$got', not '$expected'"
}
# The default: picture and caption; several questions of one picture stay, and the same question but for its spelling goes. First ids stay.
dropped "a1>a0 d1>d0 e1>e0 t2>t0 z1>z0 " --method exact --keep first
grep -q 'dropped: duplicate image and caption *5$' got.txt || { fail "no row of the table says what was dropped"; cat got.txt; }
dropped "a1>a0 d1>d0 e1>e0 t2>t0 " --method pixels --keep first
dropped "a1>a0 c1>c0 d1>d0 e1>e0 t2>t0 z1>z0 " --method exact --keep first --caption minhash
dropped "a1>a0 d1>d0 e1>e0 t2>t0 z1>z0 " --method exact --keep first --caption minhash --jaccard 0.99
# Pictures of a low quality, all of them here: only the same file.
dropped "a1>a0 d1>d0 e1>e0 t2>t0 " --method pdq --quality 100 --keep first
run data leak --out low.sel --method pdq --quality 100 --against shards --quiet same/n-00000.h5 >/dev/null 2>low.log && fail "columns are not needed"
run data leak --out low.sel --list low.jsonl --method pdq --quality 100 --against shards --quiet shards >/dev/null || fail "leak of pictures of a low quality: exit $?"
[ "$(jq -r 'select(.sample.id == "a1") | .other.id' low.jsonl | tr '\n' ' ')" = "a0 a1 a2 " ] || fail "leak of pictures of a low quality: $(grep a1 low.jsonl)"
# Pictures alone: two in the other order are the same, one of them or one twice is not.
dropped "a1>a0 a2>a0 c1>c0 d1>d0 t1>t0 t2>t0 z1>z0 " --method exact --keep first --match image
dropped "a1>a0 b0>a0 d1>d0 d2>d0 d3>d0 e1>e0 t2>t0 z1>z0 " --method caption --keep first
dropped "a1>a0 b0>a0 d1>d0 d2>d0 d3>d0 e1>e0 t2>t0 z1>z0 " --match caption --keep first
dropped "a1>a0 b0>a0 c1>c0 d1>d0 d2>d0 d3>d0 e1>e0 t2>t0 z1>z0 " --method minhash --keep first
dropped "a1>a0 a2>a0 b0>a0 c1>c0 d1>d0 d2>d0 d3>d0 e1>e0 t1>t0 t2>t0 z1>z0 " --method exact --keep first --match either
jq -es 'any(.sample.id == "b0" and .reason == "duplicate caption" and .value == 1)' got.jsonl >/dev/null || fail "either: b0 goes for its caption"
jq -es 'any(.sample.id == "a2" and .reason == "duplicate image" and .value == 0)' got.jsonl >/dev/null || fail "either: a2 goes for its picture"
# Which stays.
dropped "a0>a2 a1>a2 c0>c1 d0>d1 t0>t1 t2>t1 z1>z0 " --method exact --match image --keep longest
run data dedup --out q.sel --quiet --method exact --keep quality shards >/dev/null || fail "keep quality: exit $?"
# Nothing left, and nothing to compare.
run data prune --out none.sel --chars-min 1000 --quiet shards >/dev/null
for method in exact pdq minhash; do
  for group in greedy chain; do
    run data dedup --from none.sel --out left.sel --method $method --group $group --json --quiet shards >left.json || fail "nothing left, $method: exit $?"
    jq -e '.before == 0 and .after == 0' left.json >/dev/null || fail "nothing left, $method"
  done
done
# Two steps: what the first dropped (a1, and longer captions) takes no part.
run data prune --out first.sel --chars-max 34 --quiet shards >/dev/null
run data dedup --from first.sel --out second.sel --method exact --keep first --quiet --json shards >second.json || fail "two steps: exit $?"
jq -e '.verb == "dedup" and .parameters.method == "exact" and .before == .after + 4 and .reasons[0].dropped == 4' second.json >/dev/null || { fail "two steps"; cat second.json; }

# Near, nearer: a is near b and b near c, but a is not near c.
head=(cats_were_sleeping_on_a_bench_of dozens_of_yellow_tulips_by_a_lak) tail=(under_an_umbrella_in_light_rain_ while_trains_passed_in_the_dark_)
middle="the old wooden bridge over the river in a small town of the north, seen from the tower of its church"
{ record p0 6 "${head[0]//_/ } $middle ${tail[0]//_/ }"; record p1 7 "${head[0]//_/ } $middle ${tail[1]//_/ }"; record p2 8 "${head[1]//_/ } $middle ${tail[1]//_/ }"; } >chain.jsonl
run data pack --input chain.jsonl --image-root data/images --out chain --prefix c >/dev/null 2>&1 && run data hash --quiet chain || fail "the chain"
for group in greedy:p1\>p0 "chain:p1>p0 p2>p1"; do
  run data dedup --out chain.sel --list chain.list --method minhash --jaccard 0.56 --keep first --group "${group%%:*}" --quiet chain >/dev/null || fail "$group: exit $?"
  got=$(jq -r '.sample.id + ">" + .other.id' chain.list | sort | tr '\n' ' ')
  [ "$got" = "${group#*:} " ] || fail "$group: $got"
done

# The same bytes for ranks, threads and orders of shards, whatever the method.
settings=("--method exact" "--method pdq --quality 0 --match image" "--method pdq --dihedral --quality 0 --match either --group chain --caption minhash --keep longest"
  "--method dhash --match image --keep quality" "--method phash_imagededup --distance 20 --match image --group chain" "--method minhash --jaccard 0.3 --group chain")
for k in "${!settings[@]}"; do
  # shellcheck disable=SC2086
  run data dedup ${settings[k]} --out $k.sel --list $k.jsonl --threads 1 --quiet shards >$k.txt || fail "${settings[k]}: exit $?"
  [ -s $k.jsonl ] || fail "${settings[k]}: nothing was dropped"
  for n in 2 3 4; do
    # shellcheck disable=SC2086
    ranks $n data dedup ${settings[k]} --out $k-$n.sel --list $k-$n.jsonl --threads $((n - 1)) --quiet shards/n-0000{2,0,4,3,1}.h5 >$k-$n.txt 2>$k-$n.log ||
      { fail "$n ranks, ${settings[k]}: exit $?"; cat $k-$n.log; }
    cmp $k.sel $k-$n.sel && cmp $k.jsonl $k-$n.jsonl && diff $k.txt $k-$n.txt || fail "$n ranks, ${settings[k]}: another result"
  done
done

# The leak check: pictures 0 and 5, and a caption, are in the other set.
{ record x0 0 "nothing that was said before"; record x1 "7,5" "a question of the test"; record x2 9 "TWO of them"; } >test.jsonl
run data pack --input test.jsonl --image-root data/images --out test --prefix x >/dev/null 2>&1 && run data hash --quiet test || fail "the other set"
leaked() { # leaked EXPECTED ARGUMENTS...
  local expected=$1 got
  shift
  run data leak --out leak.sel --list leak.jsonl --quiet --against test/x-00000.h5 "$@" shards >leak.txt 2>leak.log || { fail "leak $*: exit $?"; cat leak.log; return; }
  got=$(jq -r '.sample.id + ">" + .other.id' leak.jsonl | sort | tr '\n' ' ')
  [ "$got" = "$expected" ] || fail "leak $*: '$got', not '$expected'"
}
leaked "a0>x0 a1>x0 a2>x0 t0>x1 t1>x1 t2>x1 " --method exact
leaked "d0>x2 d1>x2 d2>x2 d3>x2 " --match caption
leaked "a0>x0 a1>x0 a2>x0 d0>x2 d1>x2 d2>x2 d3>x2 t0>x1 t1>x1 t2>x1 " --method pixels --match either
run data why leak.sel d0 shards | grep -q 'caption in the other set' || fail "why does not name the leak"
leaked "" --method exact --match both
cp leak.sel one.sel
leaked "a0>x0 a1>x0 a2>x0 t0>x1 t1>x1 t2>x1 " --method exact
for n in 2 3; do
  ranks $n data leak --out leak-$n.sel --list leak-$n.jsonl --quiet --method exact --against test shards/n-0000{3,2,4,0,1}.h5 >/dev/null 2>&1 || fail "leak on $n ranks: exit $?"
  cmp leak.sel leak-$n.sel && cmp leak.jsonl leak-$n.jsonl || fail "leak on $n ranks: another result"
done
ranks 2 data leak --out pdq-2.sel --quiet --method pdq --quality 0 --dihedral --against test shards >/dev/null 2>&1 &&
  run data leak --out pdq-1.sel --quiet --method pdq --quality 0 --dihedral --against test shards >/dev/null && cmp pdq-1.sel pdq-2.sel || fail "leak by pdq depends on the ranks"

# Turned pictures are found from either side.
for part in a:0:19 b:20:39; do
  IFS=: read -r name first last <<<"$part"
  for i in $(seq "$first" "$last"); do record "$i" "$i" "of side $name"; done >$name.jsonl
  run data pack --input $name.jsonl --image-root data/images --out side-$name --prefix s --quiet && run data hash --quiet side-$name || fail "side $name"
done
run data leak --out x.sel --list ab.jsonl --method pdq --quality 0 --dihedral --distance 90 --against side-b --quiet side-a >/dev/null &&
  run data leak --out x.sel --list ba.jsonl --method pdq --quality 0 --dihedral --distance 90 --against side-a --quiet side-b >/dev/null || fail "sides: exit $?"
rm -f x.sel
jq -r '.sample.id + " " + .other.id + " \(.value)"' ab.jsonl | sort >ab
jq -r '.other.id + " " + .sample.id + " \(.value)"' ba.jsonl | sort >ba
[ -s ab ] && cmp ab ba || fail "the pairs depend on the side they are looked for from"

# Pictures that PDQ has no bits for (plain ones, sides below 5) are not alike for it.
mkdir plain
base64 -d >plain/red.png <<<iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAIAAADZSiLoAAAAEElEQVR4nGP8zwAFTAyYLAAdWwEFNX6VDAAAAABJRU5ErkJggg==
base64 -d >plain/blue.png <<<iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAIAAADZSiLoAAAAF0lEQVR4nGNkYPjPwMDAwMDAxAADCBYAG10BBdmz9y8AAAAASUVORK5CYII=
for name in red blue blue; do echo "{\"image\":\"$name.png\",\"caption\":\"x\"}"; done >plain.jsonl
run data pack --input plain.jsonl --image-root plain --out plain --prefix p --quiet && run data hash --quiet plain || fail "plain pictures"
for how in "" --dihedral; do
  # shellcheck disable=SC2086
  run data dedup --out plain.sel --method pdq --quality 0 --match image --quiet $how plain | grep -q 'dropped: duplicate image *1$' || fail "plain pictures are alike $how"
done

# What is refused.
refused 64 "--out and at least one shard" data dedup shards
refused 64 "--method 'sift' is unknown" data dedup --out x.sel --method sift shards
refused 64 "--distance is for hashes" data dedup --out x.sel --method exact --distance 3 shards
refused 64 "at most half their bits" data dedup --out x.sel --method dhash --distance 33 shards
refused 64 "are for --method pdq" data dedup --out x.sel --method dhash --dihedral shards
refused 64 "none of both, image, caption, either" data dedup --out x.sel --match all shards
refused 64 "none of largest" data dedup --out x.sel --keep best shards
refused 64 "none of greedy, chain" data dedup --out x.sel --group all shards
refused 64 "--jaccard is above 0" data dedup --out x.sel --jaccard 0.5 shards
refused 64 "does not look at captions" data dedup --out x.sel --match image --caption minhash shards
refused 64 "compares captions alone" data dedup --out x.sel --match image --method minhash shards
refused 64 "does not look at pictures" data dedup --out x.sel --match caption --method pdq shards
refused 64 "wrong option" data dedup --against shards --out x.sel shards
refused 64 "--against is needed" data leak --out x.sel shards
refused 65 "run bifocal data hash" data dedup --out x.sel same
run data dedup --out many.sel --method minhash --threads 4096 --memory-mib 5 --quiet shards >/dev/null || fail "many threads: exit $?"
refused 64 "from 1 to 4096" data dedup --out x.sel --threads 4097 shards
refused 71 "MiB a rank, allowed are 1" data dedup --out x.sel --memory-mib 1 shards
LAUNCH=$two refused 65 "run bifocal data hash" data dedup --out x.sel same
refused 74 "cannot write to the folder" data dedup --out missing/x.sel shards
absent 'x.sel*'
leftovers
finish
