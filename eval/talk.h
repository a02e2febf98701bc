/* A conversation with a model, turn by turn. Each prompt is made anew from all turns (bif_chat_dialogue), so it is what training would
 * see. */
#pragma once
#include "eval/generate.h"

typedef enum {
    BIF_TALK_ENDED = 0,   /* by the model */
    BIF_TALK_LONG,        /* the answer has as many tokens as are allowed */
    BIF_TALK_FULL,        /* the model has no positions left */
    BIF_TALK_INTERRUPTED, /* by `go_on` */
} bif_talk_end;

typedef struct {
    void (*put)(void *context, const char *text, size_t size); /* the answer as it comes (eval/stream.h) */
    bool (*go_on)(void *context);                               /* asked behind each token; false ends the answer, which stays as it is */
    void *context;
} bif_talk_listener;

typedef struct bif_talk bif_talk;
/* Changes session->chat.system, which it gives back when it is freed. decoding: without beams; sampling draws by the number of the turn. */
bif_talk *bif_talk_new(bif_session *session, const bif_decoding *decoding);
void bif_talk_free(bif_talk *talk); /* NULL is allowed */
/* A picture for what is said next. BIF_ERR_USAGE: a decoder alone; else as bif_session_image. */
bif_status bif_talk_image(bif_talk *talk, const char *path);
/* One turn. Pictures that wait come before the text, each with a newline, unless it places all of them with <image>. After a failure
 * the conversation is as it was before. BIF_ERR_DATA: placeholders and pictures differ, not UTF-8, or more tokens than positions. */
bif_status bif_talk_say(bif_talk *talk, const char *text, const bif_talk_listener *listener, bif_talk_end *end);
int64_t bif_talk_turns(const bif_talk *talk); /* questions and answers so far */
int64_t bif_talk_waiting(const bif_talk *talk); /* pictures for what is said next */
void bif_talk_reset(bif_talk *talk);                      /* forgets turns and pictures */
void bif_talk_system(bif_talk *talk, const char *system); /* another system text, and a new conversation */
/* As LLaVA's JSON: a list of one record {"id", "image" (a list if there are several), "conversations"}, pictures by the paths they were
 * given. BIF_ERR_USAGE: nothing was said yet. */
bif_status bif_talk_save(const bif_talk *talk, const char *path);
