#!/usr/bin/env bash
# Selections used: what they hold, why a sample was dropped, undone, compared; DataComp's lists of uids both ways; training on shards and a selection.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden/uids
make_data 60
# Shards whose samples have DataComp's uids: md5 of their numbers. Three shards; in `turned` they stand the other way round.
while read -r line; do
  n=$(sed 's/^{"id":"\([0-9]*\)".*/\1/' <<<"$line")
  sed "s/^{\"id\":\"[0-9]*\"/{\"id\":\"$(printf %s "$n" | md5sum | cut -c1-32)\"/" <<<"$line"
done <data/captions.jsonl >data/uids.jsonl
run data pack --input data/uids.jsonl --image-root data/images --out pool --prefix p --max-samples 23 --quiet || fail "the pool could not be packed"
mkdir turned && cp pool/p-00000.h5 turned/c.h5 && cp pool/p-00001.h5 turned/b.h5 && cp pool/p-00002.h5 turned/a.h5
id() { printf %s "$1" | md5sum | cut -c1-32; }

# numpy's bytes, both ways, for any number of ranks.
for np in 1 2 3; do
  ranks $np data uids --out all.npy pool >uids.log 2>&1 && cmp all.npy "$golden/all.npy" || { cat uids.log; fail "np $np: uids of all samples"; }
  ranks $np data select-uids --uids "$golden/listed.npy" --out listed-$np.sel pool >select.log 2>&1 || { cat select.log; fail "np $np: select-uids"; }
  ranks $np data uids --from listed-$np.sel --out kept.npy turned/a.h5 turned/c.h5 turned/b.h5 >uids.log 2>&1 && cmp kept.npy "$golden/kept.npy" || { cat uids.log; fail "np $np: uids of a selection"; }
done
cmp listed-1.sel listed-2.sel && cmp listed-1.sel listed-3.sel || fail "the selection depends on the ranks"
grep -q '^5 of the 25 different uids in the list belong to no sample here' select.log || { cat select.log; fail "absent uids are not counted"; }
grep -q 'dropped: not in the list  *40$' select.log && grep -q 'repeated: as often as listed  *10$' select.log && grep -q 'after  *30$' select.log || { cat select.log; fail "the table of select-uids"; }
ranks 4 data select-uids --uids "$golden/listed.npy" --out order.sel pool/p-00002.h5 pool/p-00000.h5 pool/p-00001.h5 >/dev/null 2>&1 && cmp order.sel listed-1.sel || fail "the selection depends on the order of the shards"
run data select-uids --uids "$golden/listed.raw" --out raw.sel pool >/dev/null && cmp raw.sel listed-1.sel || fail "an array without a header and unsorted"
run data select-uids --uids all.npy --from listed-1.sel --out once.sel pool >once.log && grep -q 'once again: as often as listed  *10$' once.log || { cat once.log; fail "a list upon a selection"; }
run data select-uids --json --uids "$golden/listed.npy" --out x.sel pool | grep -q '"uids_absent": 5' || fail "select-uids --json"
head -c 200 "$golden/all.npy" >short.npy
head -c 16 /dev/zero >nobody.raw
refused 65 'none of its 1 different uids belongs to a sample here' data select-uids --uids nobody.raw --out no.sel pool
refused 65 'short.npy: the header promises 60 elements' data select-uids --uids short.npy --out no.sel pool
refused 65 'tokenizer.json: neither a .npy file nor a plain array' data select-uids --uids tokenizer.json --out no.sel pool
refused 64 'data uids: --out is missing' data uids pool

# Copies of samples in another shard have the same uids: they share what is listed, and a list written after dedup brings back as many.
mkdir copies && cp pool/p-*.h5 copies && run data pack --input data/uids.jsonl --image-root data/images --out copies --prefix q --source uids.jsonl --max-samples 60 --quiet || fail "copies could not be packed"
for np in 1 2 3; do
  ranks $np data uids --out both-$np.npy copies >uids.log 2>&1 && grep -q '120 uids of 120 samples, 60 different' uids.log || { cat uids.log; fail "uids of copies"; }
  ranks $np data select-uids --uids both-$np.npy --out both-$np.sel copies >select.log 2>&1 && grep -q 'after  *120$' select.log || { cat select.log; fail "a list with every uid twice keeps other samples than both copies"; }
  ranks $np data select-uids --uids all.npy --out shared-$np.sel copies >select.log 2>&1 && grep -q 'another sample of the same uid  *60$' select.log && grep -q 'after  *60$' select.log || { cat select.log; fail "copies are kept beside what is listed once"; }
  cmp shared-1.sel shared-$np.sel || fail "np $np: how copies share depends on the ranks"
  ranks $np data uids --from shared-$np.sel --out back.npy copies >/dev/null 2>&1 && cmp back.npy all.npy || fail "np $np: the uids of what is kept are not those listed"
done
# No result replaces a shard.
sum=$(sha256sum <copies/q-00000.h5)
refused 64 'is an HDF5 file' data uids --out copies/q-00000.h5 copies
refused 64 'is an HDF5 file' data undo --out copies/q-00000.h5 both-1.sel
[ "$sum" = "$(sha256sum <copies/q-00000.h5)" ] || fail "a shard was replaced"

# What a selection holds, why, undo, diff. Samples 0, 6, ... are kept twice, 3, 9, ... once.
run data selection listed-1.sel >shown || fail "data selection"
grep -q '^3 shards, 60 samples, 30 kept' shown && grep -q '  p-00002.h5$' shown && grep -q '^step 1: select-uids {"listed":35,"uids_xxh3":"[0-9a-f]*"}$' shown || { cat shown; fail "data selection"; }
run data selection --json once.sel | tr -d ' \n' | grep -q '"verb":"select-uids",.*"before":30,"after":20,"reasons":\[{"name":"notinthelist","dropped":0,.*"once":10},' || fail "data selection --json"
run data selection --list kept listed-1.sel pool >kept.jsonl && run data selection --list dropped listed-1.sel pool >dropped.jsonl || fail "data selection --list"
[ "$(wc -l <kept.jsonl)" -eq 20 ] && [ "$(grep -c '"times":2' kept.jsonl)" -eq 10 ] && [ "$(wc -l <dropped.jsonl)" -eq 40 ] || { cat kept.jsonl; fail "the lists of samples"; }
grep -q "\"shard\":\"p-00001.h5\",\"index\":2,\"id\":\"$(id 25)\",\"uid\":\"$(id 25)\",\"step\":1,\"verb\":\"select-uids\",\"reason\":\"not in the list\"" dropped.jsonl || { cat dropped.jsonl; fail "sample 25 is not listed as dropped"; }
run data selection --list kept listed-1.sel turned | sed 's/c.h5/p-00000.h5/; s/b.h5/p-00001.h5/; s/a.h5/p-00002.h5/' | cmp - kept.jsonl || fail "numbers depend on the order of the shards"
for name in "$(id 25)" p-00001.h5:2 pool/p-00001.h5:2 "#$(sed -n "s/^{\"sample\":\([0-9]*\),.*$(id 25).*/\1/p" dropped.jsonl | head -n 1)"; do
  run data why once.sel "$name" pool >why || fail "why $name"
  grep -q "^sample #[0-9]* id '$(id 25)' uid $(id 25), p-00001.h5:2$" why && grep -q '^  caption "a green square"$' why &&
    grep -q '^  step 1 select-uids {.*}: dropped for "not in the list", value 0$' why && ! grep -q '^  step 2' why && grep -q 'in the end: kept 0 times' why || { cat why; fail "why $name"; }
done
run data why --json once.sel "$(id 6 | tr a-f A-F)" pool | tr -d ' \n' >why
grep -q '"times":1,"steps":\[{"step":1,.*"verdict":"repeated",.*"times":2},{"step":2,.*"verdict":"repeated","reason":"asoftenaslisted".*"times":1}\]' why || { cat why; fail "why --json"; }
refused 65 "no sample of 60 has the id or uid 'nobody'" data why once.sel nobody pool
refused 64 'there are 60 samples' data why once.sel '#60' pool
refused 65 'which is not among the shards that are named' data why once.sel '#6' pool/p-00000.h5
run data undo --out back.sel once.sel >undo.log && cmp back.sel listed-1.sel || fail "undo"
grep -q '^1 steps taken back, 1 stay; 30 samples kept, before 20$' undo.log || { cat undo.log; fail "undo does not say what it did"; }
refused 64 '3 steps cannot be undone' data undo --steps 3 --out no.sel once.sel
run data undo --steps 2 --out none.sel once.sel >/dev/null
[ "$(ranks 2 data undo --steps 2 --out none.sel once.sel | wc -l)" = 1 ] || fail "two ranks undo, and print twice"
run data diff listed-1.sel raw.sel | grep -q 'the same samples are kept: 20' || fail "diff of equal ones"
refused 65 'differ in 10 samples' data diff listed-1.sel once.sel
run data diff --list none.sel once.sel turned >diff.log 2>/dev/null
grep -q 'kept by A alone: 40' diff.log && grep -q 'dropped in B by its step 1 select-uids, not in the list: 40' diff.log && grep -q "\"id\":\"$(id 25)\".*\"a\":1,\"b\":0,\"step\":1" diff.log || { cat diff.log; fail "diff --list"; }
printf 'x' >bad.sel && refused 65 'bad.sel: not a selection' data selection bad.sel
head -c 400 listed-1.sel >bad.sel && refused 65 'it is cut short' data diff bad.sel once.sel

# A list that is cut off by a full disk is no success, and no result takes the place of a device.
if [ -c /dev/full ]; then
  status=0
  run data selection --list kept once.sel pool >/dev/full 2>full.log || status=$?
  [ $status -eq 74 ] && grep -q 'standard output cannot be written' full.log || { cat full.log; fail "a list on a full disk: exit $status"; }
fi
mkfifo pipe && refused 64 'name a file' data undo --out pipe once.sel && [ -p pipe ] || fail "a pipe was replaced"

# New shards: the same for any number of ranks; the sources stay as they are.
sum=$(cat pool/* turned/* | sha256sum)
for np in 1 2 3; do
  ranks $np data compact --from listed-1.sel --out new$np --prefix n --max-samples 12 turned/c.h5 turned/b.h5 turned/a.h5 >compact.log 2>&1 || { cat compact.log; fail "np $np: compact"; }
  run data verify new$np >verify.log || { cat verify.log; fail "np $np: the new shards are not good"; }
  for shard in 0 1 2; do cmp new1/n-0000$shard.h5 new$np/n-0000$shard.h5 || fail "np $np: other shards than one rank's"; done
done
grep -q '30 samples and 20 images .* in 3 shards new3/n-\*.h5' compact.log || { cat compact.log; fail "what compact says"; }
[ "$(ls -A new1 | tr '\n' ' ')" = "n-00000.h5 n-00001.h5 n-00002.h5 " ] || fail "beside the shards stands: $(ls -A new1)"
[ "$sum" = "$(cat pool/* turned/* | sha256sum)" ] || fail "compact changed its sources"
run data show --index 1 --json --tokenizer tokenizer.json new1 | grep -q "\"id\": *\"$(id 0)-1\"" || fail "the second copy of sample 0 has another id"
refused 64 'is there already' data compact --from listed-1.sel --out new1 --prefix n pool
# What a killed one left goes with the next; one without room on the disk leaves nothing.
mkdir -p new4/.n-compacting && echo half >new4/.n-compacting/n-00000.h5
run data compact --from listed-1.sel --out new4 --prefix n --max-samples 12 --quiet turned/c.h5 turned/b.h5 turned/a.h5 && cmp new4/n-00002.h5 new1/n-00002.h5 || fail "a folder that a killed compact left"
# One that was killed while its shards got their names: the next finishes that, and takes away nothing.
mkdir -p new6/.n-compacting && cp new1/n-0000[01].h5 new6 && cp new1/n-00002.h5 new6/.n-compacting/n-00003.h5 && echo '[0, 1, 3]' >new6/.n-compacting/publishing.json
refused 64 'killed while its 3 shards got their names & is there already' data compact --from listed-1.sel --out new6 --prefix n --max-samples 12 turned
diff -r new1 new6 || fail "the shards of a killed compact"
mkdir new5
if mount -t tmpfs -o size=12k none new5 2>/dev/null; then
  for LAUNCH in '' "$two"; do
    refused 74 'No space left on device' data compact --from listed-1.sel --out new5 --prefix n --max-samples 20 pool
    [ -z "$(ls -A new5)" ] || fail "left on the full disk: $(ls -A new5)"
  done
  LAUNCH=
  umount new5
else
  echo "no tmpfs can be mounted here: a full disk is not tested"
fi
leftovers
absent '*-compacting*'

# Columns go along, the same for any number of ranks; and why names the sample on whose account another one went.
run data hash --quiet pool && run data dedup --quiet --method dhash --match either --out dedup.sel pool >dedup.log || { cat dedup.log; fail "hash and dedup"; }
run data select-uids --uids "$golden/listed.npy" --from dedup.sel --out both.sel pool >/dev/null || fail "a second step"
for np in 1 2 3; do
  ranks $np data compact --quiet --from listed-1.sel --out col$np --prefix n --max-samples 12 pool || fail "np $np: compact with columns"
  run data verify col$np >verify.log || { cat verify.log; fail "np $np: columns of the new shards"; }
  diff -r col1 col$np || fail "np $np: other shards or columns than one rank's"
done
[ "$(ls col1/n-00001.columns | grep -c npy)" -eq "$(ls pool/p-00001.columns | grep -c npy)" ] || fail "columns stayed behind"
cp -r col1 anew && rm -r anew/*.columns && run data hash --quiet anew && diff -r -x hash-errors.jsonl col1 anew || fail "the columns that went along are not those of the new shards"
dropped=$(run data selection --list dropped dedup.sel pool | sed -n '1s/.*"shard":"\([^"]*\)","index":\([0-9]*\),.*/\1:\2/p')
other=$(run data selection --list dropped dedup.sel pool | sed -n '1s/.*"other":\([0-9]*\).*/\1/p')
run data why both.sel "$dropped" pool >why || fail "why $dropped"
grep -q '^  step 1 dedup {.*}: dropped for ".*", value' why && grep -q "^    on account of #$other id '[0-9a-f]*' uid" why && [ "$(grep -c "^ *caption " why)" -eq 2 ] || { cat why; fail "why a duplicate was dropped"; }

# Columns beside a shard are verified with it.
mkdir -p new1/n-00001.columns
columns=new1/n-00001.columns
printf 'null\n' >$columns/late.jsonl
printf '{"format":"bifocal-column","version":1,"name":"late","of":"sample","method":"m","shard":"00000000000000000000000000000000","xxh3":"0","rows":1,"width":1,"type":"text"}' >$columns/late.json
expect=0
run data verify new1 >verify.log 2>&1 || expect=$?
[ $expect -eq 65 ] && grep -q "^column $columns/late: .*made of another shard" verify.log && [ "$(grep -c ": good$" verify.log)" -eq 3 ] || { cat verify.log; fail "a column of another shard is not told ($expect)"; }
rm -r $columns

# Training on the shards and the selection is training on the new shards: the same numbers to the bit, shuffled or not, in stages clip and pretrain; the
# shards' order is the recipe's, not the selection's.
pool='data.shards=[turned/c.h5,turned/b.h5,turned/a.h5]'
for way in "clip.yaml --set augment.scale=0.5" "clip.yaml --set data.shuffle=no --set data.last=drop" \
           "lm.yaml --set data.max_tokens=256 --set data.last=wrap --set data.sampler=modality_length --set batch.micro_samples=4"; do
  rm -rf out
  # shellcheck disable=SC2086
  run train $way --set train.steps=12 --set output=out/a --set "$pool" --set data.selection=listed-1.sel >a.log 2>&1 &&
    run train $way --set train.steps=12 --set output=out/b --set data.shards=[new1] >b.log 2>&1 || { cat a.log b.log; fail "$way"; }
  [ "${way%% *}" = lm.yaml ] || grep -q 'listed-1.sel: 10 pairs are kept more than once; in a batch' a.log || { cat a.log; fail "repeated pairs are not told"; }
  grep -q 'data: 30 samples' a.log || { cat a.log; fail "$way: another number of samples"; }
  [ -n "$(losses out/a)" ] && [ "$(losses out/a)" = "$(losses out/b)" ] || { diff <(losses out/a) <(losses out/b); fail "$way: the losses differ"; }
  "$tools/tool_st_diff" "$(weights out/a)" "$(weights out/b)" 0 >/dev/null || fail "$way: the weights differ"
done
rm -rf out
run train clip.yaml --set train.steps=12 --set output=out/all --set "$pool" >all.log 2>&1 && grep -q 'data: 60 samples' all.log || { cat all.log; fail "all samples"; }

# A resume keeps to its selection; one of the same samples in another file will do. Validation has a selection of its own.
clip="train clip.yaml --set output=out/run --set data.shards=[pool] --set data.validation=[turned] --set data.validation_selection=once.sel"
run $clip --set train.steps=8 --set train.validate_every=4 --set data.selection=listed-1.sel --set train.stop_after=4 >run.log 2>&1
[ $? -eq 75 ] || { cat run.log; fail "the run did not stop after 4 steps"; }
for LAUNCH in '' "$two"; do
  refused 78 'data.shards, data.selection, data.caption_column or data.order: not what the checkpoint in out/run was trained on' $clip --set train.steps=8 --set train.validate_every=4 --set data.selection=once.sel
  refused 78 'data.shards, data.selection, data.caption_column or data.order: not what the checkpoint' $clip --set train.steps=8 --set train.validate_every=4
  refused 65 'data.selection: listed-1.sel was made with the shard p-0000 & which is not among the shards that are named' train clip.yaml --set output=out/no --set data.shards=[pool/p-00000.h5] --set data.selection=listed-1.sel
  refused 65 'data.validation_selection: all.npy: not a selection' train clip.yaml --set output=out/no --set data.shards=[pool] --set data.validation=[pool] --set data.validation_selection=all.npy
done
LAUNCH=
refused 78 'data.validation_selection is given, but data.validation names no shards' train clip.yaml --set data.validation_selection=once.sel
run $clip --set train.steps=8 --set train.validate_every=4 --set data.selection=raw.sel >run.log 2>&1 || { cat run.log; fail "a resume with the same selection in another file"; }
grep -q 'resuming from out/run/step_00000004' run.log || { cat run.log; fail "the run began anew"; }
finish
