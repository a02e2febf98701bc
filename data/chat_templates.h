/* The table of conversation templates: what stands around a system text, a question and an answer, and what of it is supervised.
 *
 * In these strings BIF_FRAME_BOS and BIF_FRAME_EOS stand for the ids of bif_chat (BOS is left out when there is none), and <|name|> for the
 * special token of that name, which the tokenizer must have; everything else is text. An answer is written
 *
 *   answer_open | answer_lead value answer_close | answer_after
 *
 * and what stands between the bars is supervised. A prompt for generation ends with answer_open. */
#pragma once
#include "data/chat.h"

#define BIF_FRAME_BOS "\1"
#define BIF_FRAME_EOS "\2"

typedef struct {
    const char *name, *aliases; /* aliases: separated by '|', or NULL */
    const char *system;         /* its own system text; "" = none */
    const char *begin;
    const char *system_open, *system_close; /* only where there is a system text */
    bool system_in_turn;                    /* it stands in the first question, behind user_open, and not before it */
    const char *user_open, *user_close;
    const char *user_empty; /* instead of both for an empty question without pictures; NULL = no such exception */
    const char *answer_open, *answer_lead, *answer_close, *answer_after;
    const char *stop; /* BIF_FRAME_EOS, or the special token that ends an answer */
    bool strips;      /* white space around system text and values is dropped */
    bool no_question; /* a question is reduced to its pictures, and there is one only */
} bif_template;

extern const bif_template bif_templates[BIF_TEMPLATE_KINDS];

/* A chat template in Jinja that writes what bif_chat writes, for tokenizer_config.json: transformers' messages (roles system, user and
 * assistant; content a string in which <image> stands for a picture, or a list of parts of type image and text). system: NULL = the
 * template's own; bos and eos: the tokens' text, bos NULL = none. malloc'ed. */
char *bif_template_jinja(bif_template_kind kind, const char *system, bif_image_place place, const char *bos, const char *eos);
