/* Conversations to token ids and labels. Labels are built segment by segment while encoding, so a mask cannot mismatch.
 *
 * plain       BOS? <image>... caption "\n"
 *             (LLaVA stage 1: the human turn is discarded, no EOS is trained; caption + "\n" supervised)
 * vicuna_v1   BOS? system " USER: " q " ASSISTANT: " a EOS "USER: " ...   (answer + EOS supervised)
 * chatml      <|im_start|>system\n..<|im_end|>\n<|im_start|>user\n..<|im_end|>\n<|im_start|>assistant\n a <|im_end|> \n
 *             (a + <|im_end|> supervised)
 *
 * A sample is the JSON of a shard: {"conversations":[{"from":"human"|"gpt","value":...}, ...]} or {"caption":"..."}
 * (for the two conversation templates: the answer to a question that holds only its pictures). In a human turn each
 * "<image>" stands for one image, in order. LLaVA's rule moves it to the front of its turn: <image>"\n" and then the
 * value without placeholders, stripped; several placeholders of a turn all go to the front, each with its newline
 * (LLaVA keeps only one). Values without placeholders, and all answers, stay as they are, spaces included; "<image>" in
 * an answer is plain text, and so is the text of special tokens in any value. A first turn from gpt is dropped. A last
 * turn from human is kept and not supervised.
 *
 * Segments. The text is LLaVA's to the character, but it is encoded in pieces that are cut at special tokens, at images
 * and where an answer starts; all text between two cuts is encoded as a whole. For vicuna_v1 the cut is before the
 * space: a prompt ends with "ASSISTANT:" and the answer is encoded as " " + answer, supervised from its first token
 * (byte-level BPE puts the space into the first word). So a prompt for generation is exactly the prefix of what
 * training saw, and a label can not slip. A tokenizer with a prefix space (SentencePiece) puts it at the start of a text
 * and behind an image, which is where LLaVA begins to tokenize anew, behind other special tokens if it is a legacy one,
 * and never before an answer, which continues its prompt.
 *
 * Own texts of the templates: vicuna_v1 LLaVA's "A chat between a curious user ..."; chatml "You are a helpful
 * assistant."; plain has none. */
#pragma once
#include "base/status.h"
#include "data/tokenizer.h"

typedef enum { BIF_TEMPLATE_PLAIN = 0, BIF_TEMPLATE_VICUNA_V1 = 1, BIF_TEMPLATE_CHATML = 2 } bif_template_kind;
/* An unknown name: BIF_ERR_CONFIG listing the names. */
bif_status bif_template_by_name(const char *name, bif_template_kind *out);
const char *bif_template_name(bif_template_kind kind);

typedef struct {
    const bif_tokenizer *tokenizer; /* borrowed */
    bif_template_kind kind;
    const char *system;   /* NULL = the template's own; "" = none (also no space or <|im_start|> for it) */
    int32_t bos, eos, image; /* special ids; bos -1 = none (chatml never has one); eos must exist for vicuna_v1, chatml
                                uses <|im_end|>; image must exist when pictures are used */
    int64_t image_tokens; /* rows an image takes in the sequence (P or P+1) */
    int64_t max_tokens; /* longest expanded sequence, 0 = any; longer samples are refused, or truncated on the right */
    bool truncate; /* false: BIF_ERR_DATA "sample has N tokens, limit M"; true: cut after expansion as LLaVA does */
} bif_chat;

#define BIF_LABEL_NONE (-100)

typedef struct {
    bif_ids ids;          /* [T] expanded: an image position holds the image token's id */
    bif_ids labels;       /* [T] unshifted: labels[t] is ids[t] where it is supervised, else -100 */
    int64_t *image_start; /* [images] first row of each image; malloc'ed */
    int64_t images;       /* pictures whose first row is inside; truncation can cut the rows of the last one short */
    int64_t supervised;   /* labels that are not -100 and have a predecessor */
} bif_encoded;
void bif_encoded_free(bif_encoded *encoded);

/* images = how many pictures the sample has. Errors (BIF_ERR_DATA): placeholders and pictures differ in number, no
 * turns, wrong roles or types, empty caption or answer, nothing supervised, too long. `where` names the sample. */
bif_status bif_chat_encode(const bif_chat *chat, const char *where, const char *json, size_t size, int64_t images,
                           bif_encoded *out);

/* A prompt for generation: the question as the first human turn, up to where the answer starts (no labels). Pictures
 * are put in front unless the prompt holds its own <image>. Template plain has only its pictures: training discards the
 * question. A prompt that is longer than max_tokens is refused, also with `truncate`. */
bif_status bif_chat_prompt(const bif_chat *chat, const char *prompt, int64_t images, bif_encoded *out);
/* The id that ends an answer (eos, or <|im_end|>). */
int32_t bif_chat_stop(const bif_chat *chat);
