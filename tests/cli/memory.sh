#!/usr/bin/env bash
# Memory of large weights: a table is loaded in little more than its own size, though the files are mapped, and an export needs little besides the tensor
# it copies. (tests/bench/open_7b.sh is the same at the size of LLaVA-1.5-7B.)
. "$(dirname "$0")/common.inc"
"$tools/tool_big_model" make big small 50000000 || { fail "make"; finish; }
[ "$(ls big/model-*-of-*.safetensors | wc -l)" -ge 3 ] || { ls -l big; fail "the weights are not in several files"; }
total=$(jq .metadata.total_size big/model.safetensors.index.json)
for dtype in bf16 f32; do
  "$tools/tool_big_model" load big $dtype >load.json || fail "load into $dtype"
  # A set of weights that stays mapped would make it 2 (bf16) or 1.5 (f32).
  jq -e --argjson total "$total" --arg dtype $dtype '(.table >= $total * (if $dtype == "f32" then 2 else 1 end)) and (.sanitized == 1 or .peak <= 1.2 * .table)' load.json >/dev/null ||
    { cat load.json; fail "$dtype: loading takes more than 1.2 times the table"; }
done
"$tools/tool_big_model" export big out 50000000 >export.json || fail "export"
jq -e --argjson total "$total" '.sanitized == 1 or (.peak < 0.5 * $total and .anonymous < 0.2 * $total)' export.json >/dev/null || { cat export.json; fail "an export fills the memory"; }
"$tools/tool_big_model" gguf big llama "${BIFOCAL_TESTS:?folder of the tests}/golden/tokens/smollm2" >export.json 2>gguf.log || { cat gguf.log; fail "export --format gguf"; }
jq -e --argjson total "$total" '.sanitized == 1 or (.peak < 0.5 * $total and .anonymous < 0.2 * $total)' export.json >/dev/null || { cat export.json; fail "an export for llama.cpp fills the memory"; }
run checkpoint diff --json big out 2>/dev/null | jq -e '.compared > 0 and (.only_a + .only_b + .shapes + .changed == [])' >/dev/null || fail "the export holds other tensors"
finish
