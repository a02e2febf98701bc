/* Conversations to token ids and labels. Labels are built segment by segment while encoding, so a mask cannot mismatch.
 *
 * Templates, with the supervised part in [brackets] (data/chat_templates.c holds them as a table; aliases in parentheses):
 *   plain (v0_plain)             BOS <image>... [caption \n]      LLaVA's stage 1: the question is discarded, no EOS is trained
 *   vicuna_v1 (v1, vicuna)       BOS system " USER: " q " ASSISTANT:" [" " a EOS] "USER: " q ...
 *   llava_v1                     the same with "human" for "user" in the system text
 *   llama_2 (llava_llama_2)      BOS "[INST] <<SYS>>\n" system "\n<</SYS>>\n\n" q " [/INST]" [" " a " " EOS] BOS "[INST] " q ...
 *   mistral (mistral_instruct)   BOS "[INST] " q " [/INST]" [" " a " " EOS] "[INST] " q ...       no system text of its own
 *   llama_3 (llava_llama_3)      <|begin_of_text|>, turns of <|start_header_id|>role<|end_header_id|>\n\n text <|eot_id|>, values stripped;
 *                                [a <|eot_id|>]
 *   chatml (qwen, qwen_2)        turns of <|im_start|>role\n text <|im_end|>\n; [a <|im_end|>]
 *   qwen_2_5                     chatml with Qwen2.5's own system text
 *   mpt, chatml_direct (mistral_direct)   chatml without the newline behind <|im_end|>, other system texts
 *
 * A sample is the JSON of a shard: {"conversations":[{"from":"human"|"gpt","value":...}, ...]} or {"caption":"..."}
 * (for the conversation templates: the answer to a question that holds only its pictures). In a human turn each "<image>" stands for
 * one image, in order. Where its rows come is bif_image_place:
 *   FRONT       LLaVA-1.5: to the front of its turn, <image>"\n" and then the value without placeholders, stripped. Several of a turn
 *               all go to the front, each with its newline; but when the sample has one picture for each turn that holds placeholders, a
 *               turn keeps one, as in LLaVA.
 *   KEEP        where it stands; nothing else changes (interleaved).
 *   LLAVA_NEXT  LLaVA-NeXT: the only one of a turn as FRONT, unless it stands first already; several stay where they are.
 * Values without placeholders, and all answers, stay as they are, spaces included; "<image>" in an answer is plain text, and so is the
 * text of special tokens in any value. A first turn from gpt is dropped. A last turn from human is kept and not supervised.
 *
 * Segments. The text is LLaVA's to the character, but it is encoded in pieces that are cut at special tokens, at images
 * and where an answer starts; all text between two cuts is encoded as a whole. For vicuna_v1 the cut is before the
 * space: a prompt ends with "ASSISTANT:" and the answer is encoded as " " + answer, supervised from its first token
 * (byte-level BPE puts the space into the first word). So a prompt for generation is exactly the prefix of what
 * training saw, and a label can not slip. A tokenizer with a prefix space (SentencePiece) puts it at the start of a text
 * and behind an image, which is where LLaVA begins to tokenize anew, behind other special tokens if it is a legacy one,
 * and never before an answer, which continues its prompt.
 *
 * Against LLaVA (tests/golden/make_llava.py runs its preprocess_* functions; tests/data/test_chat_llava.c compares). Ids and labels are
 * equal for plain, vicuna_v1, llava_v1, llama_2 and mistral, legacy and not. What is followed is LLaVA with the slow LlamaTokenizer of
 * the transformers it pins (4.37), where a later round that is tokenized alone has one token too many if the tokenizer is not legacy, and
 * LLaVA takes it off. (transformers 5.23 tokenizes the same, but for a text behind a picture that begins with a space, as after a
 * question that is only its picture: one prefix space less.) It differs on purpose where LLaVA is wrong or masks a sample as a whole
 * ("tokenization mismatch", loss 0): " ASSISTANT: " or "[/INST] " within a text, a last question, an empty later question, special tokens
 * spelled in a text (ids here never come from text), "<image>" in an answer. LLaVA's preprocess_mpt is off by one and masks everything,
 * always. LLaVA-NeXT's preprocess_qwen and _llama3 have the same ids, but also supervise the headers "assistant\n" and every newline and
 * special token of the questions; here only answers and what ends them are. An answer that begins with a line end is cut from the newline
 * before it (chatml). */
#pragma once
#include <jansson.h>

#include "base/status.h"
#include "data/tokenizer.h"

typedef enum { BIF_TEMPLATE_PLAIN = 0, BIF_TEMPLATE_VICUNA_V1, BIF_TEMPLATE_LLAVA_V1, BIF_TEMPLATE_LLAMA_2, BIF_TEMPLATE_LLAMA_3,
               BIF_TEMPLATE_MISTRAL, BIF_TEMPLATE_CHATML, BIF_TEMPLATE_QWEN_2_5, BIF_TEMPLATE_MPT, BIF_TEMPLATE_CHATML_DIRECT,
               BIF_TEMPLATE_KINDS } bif_template_kind;
/* For help texts. */
#define BIF_TEMPLATE_NAMES "plain, vicuna_v1, llava_v1, llama_2, llama_3, mistral, chatml, qwen_2_5, mpt, chatml_direct"
/* By name or alias. An unknown name: BIF_ERR_CONFIG listing the names. */
bif_status bif_template_by_name(const char *name, bif_template_kind *out);
const char *bif_template_name(bif_template_kind kind);

typedef enum { BIF_IMAGE_FRONT = 0, BIF_IMAGE_KEEP = 1, BIF_IMAGE_LLAVA_NEXT = 2 } bif_image_place;
/* "front", "keep", "llava_next"; else BIF_ERR_CONFIG. */
bif_status bif_image_place_by_name(const char *name, bif_image_place *out);
const char *bif_image_place_name(bif_image_place place);

typedef struct {
    const bif_tokenizer *tokenizer; /* borrowed */
    bif_template_kind kind;
    bif_image_place image_place;
    const char *system;   /* NULL = the template's own; "" = none (also no frame for it) */
    int32_t bos, eos, image; /* special ids; bos -1 = none; eos must exist where the template uses it; image must not be -1 when pictures
                                are used (below 0: only a mark of their rows, such as LLaVA's -200, no row of an embedding) */
    int64_t image_tokens; /* rows an image takes in the sequence (P or P+1) */
    int64_t max_tokens; /* longest expanded sequence, 0 = any; longer samples are refused, or truncated on the right */
    bool truncate; /* false: BIF_ERR_DATA "sample has N tokens, limit M"; true: cut after expansion as LLaVA does */
    int64_t pad_to; /* captions of pairs are filled up to so many tokens (SigLIP); 0 = not */
    int32_t pad;    /* with this one */
    bool pad_left;  /* in front */
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

int64_t bif_chat_placeholders(const char *value); /* how often "<image>" stands in it */
/* images = how many pictures the sample has. Errors (BIF_ERR_DATA): placeholders (or, FRONT, turns that hold some) and pictures differ in
 * number, no turns, wrong roles or types, empty caption or answer, nothing supervised, too long. `where` names the sample. */
bif_status bif_chat_encode(const bif_chat *chat, const char *where, const char *json, size_t size, int64_t images,
                           bif_encoded *out);

/* A prompt for generation: the question as the first human turn, up to where the answer starts (no labels). Pictures
 * are put in front, each with a newline, unless the prompt holds its own <image>. Template plain has only its pictures: training discards
 * the question. A prompt that is longer than max_tokens is refused, also with `truncate`. */
bif_status bif_chat_prompt(const bif_chat *chat, const char *prompt, int64_t images, bif_encoded *out);
/* The same in the course of a conversation: values[0], [2], ... are questions, each with an <image> for every picture it shows, [1], [3],
 * ... the answers so far; count is odd. images: of all turns. It is exactly the beginning of what training makes of these turns and an
 * answer behind them (bif_chat_encode), but answers may be empty. */
bif_status bif_chat_dialogue(const bif_chat *chat, const char *const *values, size_t count, int64_t images, bif_encoded *out);
/* Of a text that a model said up to the id that ends an answer, the bytes that are the answer's: some templates close it with a space
 * before that id (llama_2, mistral) or with a newline (plain), which the model says too. */
size_t bif_chat_said(const bif_chat *chat, const char *text);
/* What a pair takes of a record: its "caption" or, without one, the value of the first "gpt" turn; borrowed, of any JSON type. NULL: neither. */
const json_t *bif_caption_of(const json_t *record);
/* A caption as the text tower of a pair takes it, appended: BOS? text EOS, cut to max_tokens so that EOS stays (`cut`; else
 * BIF_ERR_DATA), then filled up to pad_to (data/caption.c). */
bif_status bif_chat_caption(const bif_chat *chat, const char *where, const char *text, size_t size, bool cut, bif_ids *ids);
/* The id that ends an answer (eos, <|im_end|>, <|eot_id|>). */
int32_t bif_chat_stop(const bif_chat *chat);
