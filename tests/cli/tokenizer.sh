#!/usr/bin/env bash
# data tokenizer and data show: a transcript of one sample, exit codes, messages, JSON, colour only on a terminal.
. "$(dirname "$0")/common.inc"
expect() { # expect CODE TEXT ARGUMENTS...: exit code, and a text somewhere in what is printed
  local code=$1 text=$2 status=0
  shift 2
  run "$@" >printed 2>&1 || status=$?
  [ $status -eq "$code" ] || { fail "$*: exit $status, not $code"; cat printed; }
  grep -qF -- "$text" printed || { fail "$*: '$text' is not in:"; cat printed; }
}
mkdir img
base64 -d >img/a.png <<<iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC
cat >in.json <<'END'
[{"id":"q1","image":"a.png","conversations":[{"from":"human","value":"What?\n<image>"},{"from":"gpt","value":"빛 \u001b[31m"}]},
 {"id":"c1","image":"a.png","caption":"a dot"}]
END
expect 0 'packed 2 samples' data pack --input in.json --image-root img --out shards --prefix s

# With 256 bytes and 5 specials alone every token is a byte.
expect 0 'bytes.json: 261 ids (256 bytes, 0 learned, 5 special)' data tokenizer --vocab-size 261 --out bytes.json shards
cat >want <<'END'
shards/s-00000.h5, sample 0 of 2, id 'q1', source 'in.json', template vicuna_v1
picture 0: 1 x 1 PNG, 69 bytes
          row       id    piece
            0      256    '<s>'
            1       52    'U'
            2       50    'S'
            3       36    'E'
            4       49    'R'
            5       25    ':'
            6      220    ' '
     7-     9      258    <image> x 3
           10      198    '\n'
           11       54    'W'
           12       71    'h'
           13       64    'a'
           14       83    't'
           15       30    '?'
           16      220    ' '
           17       32    'A'
           18       50    'S'
           19       50    'S'
           20       40    'I'
           21       50    'S'
           22       51    'T'
           23       32    'A'
           24       45    'N'
           25       51    'T'
           26       25    ':'
           27      220 +  ' '
           28      167 +  '\xeb'
           29      117 +  '\xb9'
           30      249 +  '\x9b'
           31      220 +  ' '
           32      215 +  '\x1b'
           33       58 +  '['
           34       18 +  '3'
           35       16 +  '1'
           36       76 +  'm'
           37      257 +  '</s>'
text:
<s>USER: <image>
What? ASSISTANT:[ 빛 \x1b[31m</s>]
tokens 38, supervised 11, pictures 1
END
run data show --tokenizer bytes.json --system "" --image-tokens 3 shards >got 2>&1 || fail "show: exit $?"
diff want got || fail "show prints something else"
expect 0 '"ids":[256,258,258,64,220,67,78,83,198],"labels":[-100,-100,-100,64,220,67,78,83,198],"image_start":[1]' \
  data show --tokenizer bytes.json --template plain --image-tokens 2 --index 1 --json shards/s-00000.h5
expect 0 '[빛 \x1b[31m<|im_end|>]' data show --tokenizer bytes.json --template chatml --image-tokens 2 shards
expect 0 'tokens 9, supervised 6, pictures 1' data show --tokenizer bytes.json --template plain --image-tokens 2 --index 1 --max-tokens 9 shards
expect 65 'sample has 9 tokens, limit 8' data show --tokenizer bytes.json --template plain --image-tokens 2 --index 1 --max-tokens 8 shards

# Records before they are packed, also from standard input: one object a sample, what cannot be used in its place.
expect 0 '"ids":[256,258,64,220,67,78,83,198],"labels":[-100,-100,64,220,67,78,83,198],"image_start":[1],"text":"<s><image>a dot\n","pieces":["<s>","<image>","a"' \
  data show --tokenizer bytes.json --template plain --image-tokens 1 --json --index 1 in.json
cat >talks.jsonl <<'END'
{"id":7,"image":["x","y"],"conversations":[{"from":"human","value":"a <image> b <image>"},{"from":"gpt","value":"c"}]}
{"id":8,"conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":"c"}]}
not JSON
{"id":10,"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"long enough to be cut"}]}
END
show="data show --tokenizer bytes.json --image-tokens 1 --system= --max-tokens 30 --truncate --json"
run $show --template v1 --image-place keep - <talks.jsonl >got 2>said
[ $? -eq 65 ] && grep -q -- '-: 2 of 4 records cannot be used' said || { cat said; fail "records from standard input"; }
[ "$(jq -c '[.id, .text, .supervised, .error]' got)" = '["7","<s>USER: a <image> b <image> ASSISTANT: c</s>",3,null]
["8",null,null,"-:2: 1 <image> placeholders but 0 pictures"]
["",null,null,"-:3: not valid JSON: invalid token near '"'"'not'"'"' (byte 3)"]
["10","<s>USER: q ASSISTANT: long enoug",11,null]' ] || { jq -c '[.id, .text, .supervised, .error]' got; fail "data show of records"; }
expect 0 "talks.jsonl, sample 0, id '7', template chatml" data show --tokenizer bytes.json --image-tokens 1 --template qwen --index 0 talks.jsonl
expect 64 'there are 4, counted from 0' data show --tokenizer bytes.json --index 4 talks.jsonl
expect 64 'one argument too many' data show --tokenizer bytes.json talks.jsonl in.json
expect 78 'llama_2, llama_3, mistral' data show --tokenizer bytes.json --template no talks.jsonl
expect 78 'place of pictures' data show --tokenizer bytes.json --image-place back talks.jsonl

# Colour only on a terminal, and not with NO_COLOR.
terminal() { script -qec "$program data show --tokenizer bytes.json --template plain --image-tokens 2 --index 1 shards" /dev/null; }
if command -v script >/dev/null; then
  terminal | grep -q $'\033\[32m' || fail "no colour on a terminal"
  NO_COLOR=1 terminal | grep -q $'\033' && fail "colour in spite of NO_COLOR"
fi
grep -q $'\033' got && fail "colour in a file"

# Text files, own specials, a folder as target, the same bytes again.
printf 'aaaa aaaa bbbb\n%.0s' 1 2 3 4 >text.txt
expect 0 'new/folder/tokenizer.json: ' data tokenizer --vocab-size 270 --out new/folder --special '<x>' --special '<y>' text.txt shards
expect 0 'again.json: 270 ids (256 bytes, 12 learned, 2 special) from' data tokenizer --vocab-size 270 --out again.json \
  --special '<x>' --special '<y>' text.txt shards
cmp new/folder/tokenizer.json again.json || fail "two trainings differ"
expect 0 'have pairs for' data tokenizer --vocab-size 5000 --out few.json text.txt

mkdir 'odd [1]*' # no pattern, a name
cp shards/*.h5 'odd [1]*'
expect 0 'sample 1 of 2' data show --tokenizer bytes.json --template plain --image-tokens 2 --index 1 'odd [1]*'

# Ids of lines, their pieces, and back; a last line without an end, bytes that are not UTF-8, NUL.
printf 'a b\n\n<s>\xff\x00' >lines.txt
printf '[64,220,65]\n[]\n[256,187,188]\n' >want
run tokenize --tokenizer bytes.json lines.txt >got && diff want got || fail "tokenize"
run tokenize --tokenizer bytes.json <lines.txt | diff want - || fail "tokenize of standard input"
run tokenize --tokenizer bytes.json --no-special lines.txt | grep -qx '\[27,82,29,187,188\]' || fail "tokenize --no-special"
printf '["a","Ġ","b"]\n[]\n["<s>","ÿ","Ā"]\n' >want
run tokenize --tokenizer bytes.json --pieces lines.txt | diff want - || fail "tokenize --pieces"
printf '"a b"\n""\n"<s>\xef\xbf\xbd\\u0000"\n' >want
run tokenize --tokenizer bytes.json --decode got | diff want - || fail "tokenize --decode"
expect 64 'is needed' tokenize lines.txt
expect 64 'is needed' tokenize --tokenizer bytes.json --pieces --decode
expect 64 'wrong option' tokenize --no-such-option
printf '[1]\n1\n' >odd.txt
expect 65 'odd.txt:2: not' tokenize --tokenizer bytes.json --decode odd.txt
echo '[1,261]' >odd.txt
expect 65 'is not an id' tokenize --tokenizer bytes.json --decode odd.txt
expect 74 'missing.txt' tokenize --tokenizer bytes.json missing.txt
expect 74 'no tokenizer.json' tokenize --tokenizer img
expect 65 'not a SentencePiece model either' tokenize --tokenizer lines.txt

expect 64 'are needed' data tokenizer --vocab-size 300 text.txt
expect 64 'not a number' data tokenizer --vocab-size 10 --out o.json text.txt
expect 64 'wrong option' data tokenizer --no-such-option
expect 64 'a vocabulary of 260' data tokenizer --vocab-size 260 --out o.json text.txt
expect 64 'given twice' data tokenizer --vocab-size 300 --special '<x>' --special '<x>' --out o.json text.txt
expect 74 'missing.txt' data tokenizer --vocab-size 300 --out o.json missing.txt
expect 64 'are needed' data show --index 0
expect 64 'not a number' data show --index -1
expect 64 'wrong option' data show --no-such-option
expect 78 'no template' data show --template llama
expect 64 'there are 2, counted from 0' data show --tokenizer bytes.json --index 2 shards
expect 64 'not a special token' data show --tokenizer bytes.json --bos '<bos>' shards
expect 74 'missing.json' data show --tokenizer missing.json shards
expect 65 'not valid JSON' data show --tokenizer text.txt shards
expect 65 'no shards' data show --tokenizer bytes.json img
for verb in tokenizer show; do
  expect 0 "usage: bifocal data $verb" data $verb --help
done
[ ! -e o.json ] || fail "a failed run wrote its output"
finish
