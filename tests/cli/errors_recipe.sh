#!/usr/bin/env bash
# Wrong command lines and recipes: exit code, a message with file, place and remedy, and an output folder that stays untouched.
. "$(dirname "$0")/common.inc"
make_data 40
edited() { sed "$2" "$1" >edited.yaml; } # edited RECIPE SED-SCRIPT

# The command line.
refused 64 "'walk' is not a verb & --help" walk
refused 64 "'data walk' is not a verb & --help" data walk
refused 64 'bifocal train --help' train
refused 64 'bifocal train --help' train lm.yaml --no-such-option
refused 64 'name one recipe' train lm.yaml clip.yaml
refused 74 'no-such.yaml & check the path' train no-such.yaml
# Keys. Every complaint names file, line and column; several come together.
edited lm.yaml '/^output:/d'
refused 78 'edited.yaml & the key output is missing' train edited.yaml
edited lm.yaml 's/hidden: 32/hiden: 32/'
refused 78 'edited.yaml:5:11 & model.llama.hiden & did you mean model.llama.hidden?' train edited.yaml
edited lm.yaml 's/samples: 8/samples: eight/'
refused 78 'edited.yaml:7:18 & batch.samples must be a whole number' train edited.yaml
edited lm.yaml 's/samples: 8/samples: [8]/'
refused 78 'edited.yaml:7:18 & batch.samples must be one value, not a list' train edited.yaml
edited lm.yaml 's/^stage: lm/stage: llm/; s/steps: 20/stepz: 20/'
refused 78 'edited.yaml:1:8 & it must be one of lm, clip, pretrain, finetune & unknown key train.stepz' train edited.yaml
edited lm.yaml 's/tied: true}/tied: true/'
refused 78 'edited.yaml: & not valid YAML' train edited.yaml
refused 78 '--set optimizer.lr=fast: optimizer.lr must be a number' train lm.yaml --set optimizer.lr=fast
refused 78 '--set optimizer.rl=1: unknown key optimizer.rl; did you mean optimizer.lr?' train lm.yaml --set optimizer.rl=1
refused 78 '--set optimizer.lr & KEY=VALUE is wanted' train lm.yaml --set optimizer.lr
refused 78 'data.tokenizer & NO_SUCH_VARIABLE' train lm.yaml --set 'data.tokenizer=${NO_SUCH_VARIABLE}'
refused 78 'batch.micro_tokens is smaller than data.max_tokens' train lm.yaml --set batch.micro_tokens=8
refused 78 'train.epochs' train lm.yaml --set train.epochs=3
refused 78 'precision is bf16, but the CPU device computes in fp32; set precision: auto' train lm.yaml --set precision=bf16
refused 78 "device is 'gpu'; it must be cpu, cuda, cuda:N or auto" train lm.yaml --set device=gpu
run train lm.yaml --check --set device= >empty.log 2>&1 && grep -q 'device: "cpu"' empty.log || { cat empty.log; fail "an empty device is not the default"; }
absent 'out*' # none of these began a run
# What only the files can tell. The key that named them stands in the message.
refused 74 'data.tokenizer: & no-such.json & check the path' train lm.yaml --set data.tokenizer=no-such.json
refused 65 'data.tokenizer: & data/captions.jsonl' train lm.yaml --set data.tokenizer=data/captions.jsonl
refused 78 'model.encoder: there is no folder no-such-run' train pretrain.yaml --set model.encoder=no-such-run
refused 78 'model.encoder: & data holds neither' train pretrain.yaml --set model.encoder=data
refused 74 'data.validation: & no-such.h5' train lm.yaml --set data.validation=[no-such.h5] --set train.validate_every=5
refused 78 'data.shards: 40 samples & batch.samples (64) & lower batch.samples' train clip.yaml --set batch.samples=64
refused 78 'data.validation: 39 samples & lower batch.samples' train clip.yaml --set batch.samples=40 --set data.validation=[shards/captions] --set data.validation_samples=39 --set 'data.shards=[shards/captions, shards/captions]'
absent 'out/*/step_*' 'out/*/metrics.jsonl' 'out/*/config.yaml'
leftovers
# Several ranks: one message from rank 0, its exit code through mpirun, no hang.
LAUNCH=$two
refused 78 'batch.samples (7) must be divisible by the 2 ranks' train clip.yaml --set batch.samples=7
refused 74 'data.tokenizer: & no-such.json' train lm.yaml --set data.tokenizer=no-such.json
refused 78 'model.encoder: & no-such-run' train pretrain.yaml --set model.encoder=no-such-run
LAUNCH=
# Small data: more samples a step than there are, a validation set below one batch. Its loss does not depend on the number of ranks.
for np in 1 2; do
  ranks $np train lm.yaml --set output=out/small$np --set batch.samples=100 --set train.steps=2 --set data.validation=[shards/talks] --set data.validation_samples=7 \
    --set train.validate_every=1 >small.log 2>&1 || { cat small.log; fail "a batch larger than the data, np $np"; }
  grep -q 'over 7 samples' small.log || { cat small.log; fail "validation on 7 samples, np $np"; }
done
paste <(grep -o 'validation_loss":[^,}]*' out/small1/metrics.jsonl) <(grep -o 'validation_loss":[^,}]*' out/small2/metrics.jsonl) | tr ':\t' '  ' |
  awk '{ d = $2 - $4; if (d < 0) d = -d; if (!(d <= 1e-5 * $2)) bad = 1; n++ } END { exit bad || n != 2 }' || fail "validation losses of 1 and 2 ranks differ"
# Validation pictures in a run whose training data have none: they are part of the memory plan.
grep -v '"image"' data/conversations.jsonl >text.jsonl
run data pack --input text.jsonl --out shards/text --prefix s >pack.log 2>&1 || fail "text only shards"
for stage in clip lm; do run train $stage.yaml --set train.steps=1 >$stage.log 2>&1 || { cat $stage.log; fail "$stage"; }; done
run train pretrain.yaml --set 'data.shards=[shards/text]' --set 'data.validation=[shards/captions]' --set data.template=vicuna_v1 --set train.steps=1 --set output=out/pictures \
  >pictures.log 2>&1 || { cat pictures.log; fail "pictures in the validation set alone"; }
# The recipes of the repository.
for recipe in "${BIFOCAL_SOURCE:?folder of the sources}"/configs/*/*.yaml "$BIFOCAL_SOURCE"/configs/*.yaml; do
  [ -e "$recipe" ] || continue
  run train "$recipe" --check >check.log 2>&1 || { cat check.log; fail "$recipe"; }
  cp check.log again.yaml # what --check prints is a recipe, and resolved it is the same
  run train again.yaml --check 2>&1 | cmp -s - check.log || fail "$recipe: --check of the resolved recipe differs"
done
finish
