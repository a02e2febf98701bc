#!/usr/bin/env bash
# data balance: the file is the same for any number of ranks and order of shards; counts are jq's; sizes are met; quotas, weights and counts; steps
# compose; wrong command lines.
. "$(dirname "$0")/common.inc"
"$tools/tool_fixture" data 60
# 600 captions on 60 pictures: cat in all, dog in half, bird in a tenth, fox in six; every 50th has none.
jq -c -s '[range(600) as $i | .[$i % 60] | . + {id: "s\($i)", caption: (if $i % 50 == 49 then "nothing here"
  else "a cat," + (if $i % 2 == 0 then " the dog." else "" end) + (if $i % 10 == 3 then " New York" else "" end) + (if $i % 100 == 7 then "\nfox" else "" end) + " n\($i)" end)}] | .[]' \
  data/captions.jsonl >many.jsonl
half() { head -n "$1" many.jsonl | tail -n "$2"; }
half 200 200 >big.jsonl; half 500 300 >huge.jsonl; half 600 100 >small.jsonl
for source in big huge small; do
  run data pack --input $source.jsonl --image-root data/images --out shards --prefix $source --source $source --max-samples 90 >>pack.log 2>&1 || { cat pack.log; fail "pack"; finish; }
done
shards=(shards/*.h5)
printf '%s\n' cat dog 'New York' fox 'Cat' '' cat 'U.S.' missing >list.txt
jq -R . list.txt | jq -s . >list.json
by="--by concepts --concepts list.txt --t 20 --seed 5"
run data balance --out one.sel $by --counts counts.tsv shards >one.txt 2>one.log || { cat one.log; fail "exit $?"; finish; }
grep -q '6 concepts (of 9 listed: 1 empty, 1 duplicate, 1 that no caption can match)' one.log || fail "the list: $(cat one.log)"
[ "$(cat counts.tsv)" = "$(printf 'cat\t588\ndog\t300\nNew York\t60\nfox\t6\nCat\t0\nmissing\t0')" ] || fail "counts: $(cat counts.tsv)"
# The same for ranks, order, form of the list, and with its own counts given back.
turned=$(printf '%s\n' "${shards[@]}" | sort -r | tr '\n' ' ')
same() { # same NAME OPTIONS...
  local name=$1; shift
  run data balance --out "$name.a" "$@" shards >"$name.txt" 2>"$name.log" || { cat "$name.log"; fail "$name: exit $?"; }
  run data balance --out "$name.b" "$@" $turned >/dev/null 2>&1 || fail "$name turned: exit $?"
  cmp "$name.a" "$name.b" || fail "$name: the order of the shards counts"
  for n in 2 3 4; do
    ranks $n data balance --out "$name.$n" "$@" shards >"$name.$n.txt" 2>"$name.log" || { cat "$name.log"; fail "$name, $n ranks: exit $?"; }
    cmp "$name.a" "$name.$n" || fail "$name: $n ranks choose otherwise"
    diff "$name.txt" "$name.$n.txt" || fail "$name: $n ranks print otherwise"
  done
}
same concepts $by
cmp one.sel concepts.a || fail "--counts changes the selection"
run data balance --out json.sel --by concepts --concepts list.json --t 20 --seed 5 shards >/dev/null 2>&1 && cmp one.sel json.sel || fail "the list as JSON"
same exact --by concepts --concepts list.txt --size 150 --seed 5
same mean --by concepts --concepts list.txt --size 150 --mean --seed 5
same source --by source --size 240
same script --by language --size 100 --keep-unmatched
for name in exact mean; do
  run data balance --by concepts --concepts list.txt --size 150 --seed 5 $([ $name = mean ] && echo --mean) --dry-run --json shards >$name.json 2>/dev/null || fail "$name: exit $?"
done
jq -e '.after == 150 and .before == 600 and .dropped["no-concept"] == 12 and .dropped["over-represented"] == 438' exact.json >/dev/null || fail "--size: $(cat exact.json)"
jq -e '(.mean_size - 150 | fabs) < 0.01 and .after > 100 and .after < 200' mean.json >/dev/null || fail "--mean: $(cat mean.json)"
jq -e '.concepts[] | select(.name == "fox") | .p == 1 and .after == .matches' exact.json >/dev/null || fail "rare concepts stay"
# t from --size as --t gives the same, and greater t keeps what smaller t kept.
t=$(jq .t exact.json)
run data balance --by concepts --concepts list.txt --t "$t" --seed 5 --dry-run --json shards 2>/dev/null | jq -e '.after == 150' >/dev/null || fail "--t $t keeps another number"
run data balance --by concepts --concepts list.txt --t 1e6 --keep-unmatched --dry-run --json shards 2>/dev/null | jq -e '.after == 600 and .mean_size == 600' >/dev/null ||
  fail "a great t keeps all"
# Counts of a greater pool: as they are, the same; ten times as many, fewer stay.
jq -R 'split("\t") | {(.[0]): (.[1] | tonumber)}' counts.tsv | jq -s 'add' >counts.json
jq 'map_values(. * 10)' counts.json >ten.json
run data balance --by concepts --concepts list.txt --t 200 --seed 5 --counts-from ten.json --dry-run --json shards 2>/dev/null | jq -c '[.after, .mean_size]' >ten.out
run data balance --by concepts --concepts list.txt --t 20 --seed 5 --counts-from counts.tsv --dry-run --json shards 2>/dev/null | jq -c '[.after, .mean_size]' >own.out
run data balance --by concepts --concepts list.txt --t 20 --seed 5 --dry-run --json shards 2>/dev/null | jq -c '[.after, .mean_size]' >none.out
cmp ten.out none.out && cmp own.out none.out || fail "counts given: $(cat ten.out own.out none.out)"
run data balance --by concepts --concepts list.txt --fold-case --counts folded.json --quiet shards >/dev/null && jq -e '.cat == 588 and .["new york"] == 60' folded.json >/dev/null ||
  fail "--fold-case: $(cat folded.json)"
# Groups: equal quotas, temperature, weights, counts, repeats.
groups() { # groups OPTIONS: before>after of each source, as JSON
  run data balance --by source --dry-run --json "$@" shards 2>groups.log | jq -c '[.groups[] | .after]' || cat groups.log
}
expect() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }
expect "equal quotas" "$(groups --size 240)" '[80,80,80]'
expect "equal quotas, small is whole" "$(groups --size 400)" '[150,150,100]'
expect "temperature 1" "$(groups --size 300 --alpha 1)" '[100,150,50]'
expect "temperature 0.5" "$(groups --size 300 --alpha 0.5)" '[102,125,73]'
expect "half, twice and a count" "$(groups --weight big=0.5 --weight small=2 --count huge=10)" '[100,10,200]'
expect "others" "$(groups --count small=150 --weight '*=0')" '[0,0,150]'
expect "a cap" "$(groups --cap 120)" '[120,120,100]'
expect "repeats" "$(groups --size 900 --max-repeat 3)" '[300,300,300]'
expect "weights of shares" "$(groups --size 300 --weight small=3)" '[80,120,100]'
run data balance --by source --out twice.sel --weight small=2.5 --count huge=0 shards >twice.txt 2>&1 || { cat twice.txt; fail "twice: exit $?"; }
run data selection twice.sel >twice.show || fail "selection"
grep -q 450 twice.show || fail "a repeated selection: $(cat twice.show)"
# Steps one after the other, repeats of the first counted in the second.
run data balance --from twice.sel --out then.sel --by source --size 200 --json shards >then.json 2>/dev/null || fail "then: exit $?"
jq -e '.before == 450 and .after == 200 and ([.groups[].after] == [100,100])' then.json >/dev/null || fail "two steps: $(cat then.json)"
run data balance --from then.sel --out third.sel --by concepts --concepts list.txt --size 90 --json shards >third.json 2>/dev/null || fail "third: exit $?"
jq -e '.before == 200 and (.after - 90 | fabs) <= 0.45' third.json >/dev/null || fail "three steps: $(jq 'del(.concepts)' third.json)"
run data selection third.sel | grep -q 'balance' || fail "the steps"
# By a script: Latin all through, so one group.
run data balance --by language --dry-run --json --cap 100 shards 2>/dev/null | jq -e '.groups == [{name: "Latn", before: 600, after: 100}]' >/dev/null || fail "scripts"
# A source of any bytes is a group that is told of, and can be named.
run data pack --input small.jsonl --image-root data/images --out odd --prefix odd --source $'x\xff\e[1m' >>pack.log 2>&1 || fail "pack of an odd source"
run data balance --by source --out odd.sel --json --count $'x\xff\e[1m=40' --count big=30 odd shards/big*.h5 >odd.json 2>odd.log || { cat odd.log; fail "an odd source: exit $?"; }
jq -e '.groups == [{name: "big", before: 200, after: 30}, {name: "x\\xff\u001b[1m", before: 100, after: 40}]' odd.json >/dev/null || fail "an odd source: $(jq -c .groups odd.json)"
run data balance --by source --dry-run --cap 50 odd shards/big*.h5 2>/dev/null >odd.txt || fail "an odd source's table"
grep -q $'\e' odd.txt && fail "control characters come through"
run data selection --json odd.sel | jq -e '[.steps[].parameters.count | keys[]] == ["big", "x\\xff\u001b[1m"]' >/dev/null || fail "an odd source's count"
refused 64 "--by is missing" data balance --out x.sel shards
refused 64 "needs --concepts" data balance --by concepts --t 5 --out x.sel shards
refused 64 "--t or --size" data balance --by concepts --concepts list.txt --t 5 --size 5 --out x.sel shards
refused 64 "--counts list.txt: is read as well" data balance --by concepts --concepts list.txt --t 5 --counts list.txt --out x.sel shards
refused 64 "--out counts.tsv: is read as well" data balance --by concepts --concepts list.txt --t 5 --counts-from counts.tsv --out counts.tsv shards
refused 64 "needs --t or --size" data balance --by concepts --concepts list.txt --out x.sel shards
refused 64 "must be above 0" data balance --by concepts --concepts list.txt --t 0 --out x.sel shards
refused 64 "cannot be reached & 1 to 588" data balance --by concepts --concepts list.txt --size 589 --out x.sel shards
refused 64 "cannot be reached & up to 600" data balance --by source --size 601 --out x.sel shards
refused 64 "--alpha is for groups" data balance --by concepts --concepts list.txt --t 5 --alpha 0.5 --out x.sel shards
refused 64 "--t is for --by concepts" data balance --by source --t 5 --out x.sel shards
refused 64 "goes with --size" data balance --by source --alpha 0.5 --out x.sel shards
refused 64 "needs --size, --cap" data balance --by source --out x.sel shards
refused 64 "no sample is of the group 'none'" data balance --by source --weight none=2 --out x.sel shards
refused 64 "NAME=NUMBER" data balance --by source --weight big --out x.sel shards
refused 64 "named before" data balance --by source --weight big=1 --count big=3 --out x.sel shards
refused 64 "at most 2^48" data balance --by source --count big=9223372036854775807 --out x.sel shards
refused 64 "more than 65535 times" data balance --by source --count big=99999999 --out x.sel shards
refused 64 "cannot be reached" data balance --by source --count big=99999999 --size 5 --out x.sel shards
refused 64 "more than 65535 times" data balance --by source --count big=99999999 --size 99999999 --out x.sel shards
refused 64 "is unknown" data balance --by colour --size 5 --out x.sel shards
refused 64 "--out or --dry-run" data balance --by source --size 5 shards
refused 64 "'a/b' is the name of no column" data balance --by cluster --column a/b --size 5 --out x.sel shards
refused 64 "'a/b' is the name of no column" data balance --by concepts --concepts list.txt --t 5 --caption-column a/b --out x.sel shards
refused 65 "bifocal data cluster" data balance --by cluster --size 5 --out x.sel shards
printf 'a,b\n\n' >none.txt
refused 65 "no entry that a caption could match" data balance --by concepts --concepts none.txt --t 5 --out x.sel shards
printf 'cat\tmany\n' >bad.tsv
refused 65 "bad.tsv:1" data balance --by concepts --concepts list.txt --t 5 --counts-from bad.tsv --out x.sel shards
seq 300000 >long.txt
refused 71 "--memory-mib" data balance --by concepts --concepts long.txt --t 5 --memory-mib 4 --out x.sel shards
LAUNCH=$two refused 65 "bifocal data cluster" data balance --by cluster --size 5 --out x.sel shards
LAUNCH=$two refused 64 "cannot be reached" data balance --by concepts --concepts list.txt --size 589 --out x.sel shards
absent x.sel '*.tmp*'
finish
