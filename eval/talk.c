#include "eval/talk.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "eval/stream.h"

struct bif_talk {
    bif_session *session;
    const char *first_system; /* the session's own */
    char *system;
    bif_decoding decoding;
    int64_t picture;        /* bytes of one */
    char **values, **paths; /* turns, pictures; malloc'ed */
    size_t count;
    int64_t images, shown; /* shown: of them in turns, the others wait */
    uint8_t *pixels;       /* [images, S, S, 3] */
};

bif_talk *bif_talk_new(bif_session *session, const bif_decoding *decoding)
{
    const int64_t side = session->model.kind == BIF_MODEL_LLAVA ? session->model.vit.image : 0;
    bif_talk *t = bif_calloc(1, sizeof *t);
    *t = (bif_talk){.session = session, .first_system = session->chat.system, .decoding = *decoding, .picture = 3 * side * side};
    return t;
}

void bif_talk_reset(bif_talk *talk)
{
    for (size_t i = 0; i < talk->count; i++) {
        free(talk->values[i]);
    }
    for (int64_t i = 0; i < talk->images; i++) {
        free(talk->paths[i]);
    }
    talk->count = 0;
    talk->images = talk->shown = 0;
}

void bif_talk_free(bif_talk *talk)
{
    if (talk != NULL) {
        bif_talk_reset(talk);
        talk->session->chat.system = talk->first_system;
        free(talk->values);
        free(talk->paths);
        free(talk->pixels);
        free(talk->system);
        free(talk);
    }
}

void bif_talk_system(bif_talk *talk, const char *system)
{
    bif_talk_reset(talk);
    free(talk->system);
    talk->system = bif_strdup(system);
    talk->session->chat.system = talk->system;
}

bif_status bif_talk_image(bif_talk *talk, const char *path)
{
    if (talk->session->model.kind != BIF_MODEL_LLAVA) {
        return bif_fail(BIF_ERR_USAGE, "%s is a decoder alone and cannot look at pictures", talk->session->folder);
    }
    talk->pixels = bif_realloc(talk->pixels, (size_t)talk->images + 1, (size_t)talk->picture);
    const bif_status st = bif_session_image_file(talk->session, path, talk->pixels + talk->images * talk->picture);
    if (st == BIF_OK) {
        talk->paths = bif_realloc(talk->paths, (size_t)talk->images + 1, sizeof *talk->paths);
        talk->paths[talk->images++] = bif_strdup(path);
    }
    return st;
}

int64_t bif_talk_turns(const bif_talk *talk)
{
    return (int64_t)talk->count;
}

int64_t bif_talk_waiting(const bif_talk *talk)
{
    return talk->images - talk->shown;
}

/* The text with a placeholder for each picture that waits, unless it has its own. */
static char *with_pictures(const bif_talk *t, const char *text)
{
    static const char mark[] = "<image>\n";
    const int64_t waiting = strstr(text, "<image>") != NULL ? 0 : bif_talk_waiting(t);
    char *value = bif_malloc((size_t)waiting * (sizeof mark - 1) + strlen(text) + 1);
    *value = '\0';
    for (int64_t i = 0; i < waiting; i++) {
        memcpy(value + (size_t)i * (sizeof mark - 1), mark, sizeof mark);
    }
    strcpy(value + strlen(value), text);
    return value;
}

/* ---- one turn ---- */

typedef struct {
    const bif_talk_listener *listener;
    bif_stream *stream;
    bif_status st;
    bool interrupted;
} hearing;

static bool hear(void *context, int64_t request, int32_t id)
{
    hearing *h = context;
    (void)request;
    h->st = bif_stream_id(h->stream, id);
    h->interrupted = h->st == BIF_OK && !h->listener->go_on(h->listener->context);
    return h->st == BIF_OK && !h->interrupted;
}

/* The prompt that ends with the last of `count` turns, and how many tokens an answer may have. */
static bif_status make_prompt(const bif_talk *t, char *const *values, size_t count, bif_encoded *prompt, int64_t *most)
{
    bif_status st = BIF_OK;
    bif_chat chat = t->session->chat;
    const int64_t positions = chat.max_tokens;
    chat.max_tokens = 0; /* the message is ours */
    BIF_TRY(bif_chat_dialogue(&chat, (const char *const *)values, count, t->images, prompt));
    const int64_t room = positions - (int64_t)prompt->ids.count;
    if (positions > 0 && room < 1) {
        BIF_TRY(
            bif_fail(BIF_ERR_DATA,
                     "the conversation has %zu tokens and the model %lld positions, so there is no place for an answer; begin a new one",
                     prompt->ids.count, (long long)positions));
    }
    *most = positions > 0 && room < t->decoding.max_new ? room : t->decoding.max_new;
done:
    return st;
}

bif_status bif_talk_say(bif_talk *talk, const char *text, const bif_talk_listener *listener, bif_talk_end *end)
{
    bif_status st = BIF_OK;
    bif_encoded prompt = {0};
    bif_generator *generator = NULL;
    bif_ids answer = {0};
    char *said = NULL;
    int64_t most = 0;
    hearing h = {.listener = listener};
    bif_generator_limits limits = {.batch = 1, .max_images = talk->images, .decoding = talk->decoding};
    talk->values = bif_realloc(talk->values, talk->count + 2, sizeof *talk->values);
    talk->values[talk->count] = with_pictures(talk, text);
    BIF_TRY(make_prompt(talk, talk->values, talk->count + 1, &prompt, &most));
    h.stream = bif_stream_new(talk->session->tokenizer, listener->put, listener->context);
    limits.max_prompt = (int64_t)prompt.ids.count;
    limits.decoding.max_new = most;
    BIF_TRY(bif_generator_new(talk->session, &limits, &generator));
    bif_generator_listen(generator, hear, &h);
    BIF_TRY(bif_generate(generator,
                         &(bif_request){.prompt = &prompt, .pixels = talk->pixels, .images = talk->images, .number = talk->count / 2}, 1,
                         &answer));
    BIF_TRY(h.st);
    BIF_TRY(bif_stream_end(h.stream));
    BIF_TRY(bif_answer_text(talk->session, &answer, &said));
    *end = h.interrupted                   ? BIF_TALK_INTERRUPTED
           : (int64_t)answer.count < most  ? BIF_TALK_ENDED
           : most < talk->decoding.max_new ? BIF_TALK_FULL
                                           : BIF_TALK_LONG;
    if (*end == BIF_TALK_ENDED) {
        said[bif_chat_said(&talk->session->chat, said)] = '\0';
    }
    talk->values[talk->count + 1] = said;
    talk->count += 2;
    talk->shown = talk->images;
done:
    if (st != BIF_OK) {
        free(talk->values[talk->count]);
    }
    bif_stream_free(h.stream);
    bif_generator_free(generator);
    bif_encoded_free(&prompt);
    bif_ids_free(&answer);
    return st;
}

bif_status bif_talk_save(const bif_talk *talk, const char *path)
{
    if (talk->count == 0) {
        return bif_fail(BIF_ERR_USAGE, "there is nothing to save yet");
    }
    json_t *turns = json_array(), *images = json_array();
    for (size_t i = 0; i < talk->count; i++) {
        json_array_append_new(turns, json_pack("{s:s,s:s}", "from", i % 2 == 0 ? "human" : "gpt", "value", talk->values[i]));
    }
    for (int64_t i = 0; i < talk->shown; i++) {
        json_array_append_new(images, bif_json_text(talk->paths[i]));
    }
    json_t *record = json_pack("{s:s}", "id", "chat");
    if (talk->shown > 0) {
        json_object_set(record, "image", talk->shown == 1 ? json_array_get(images, 0) : images);
    }
    json_object_set_new(record, "conversations", turns);
    json_t *list = json_pack("[o]", record);
    const bif_status st = bif_json_save_file(path, list);
    json_decref(images);
    json_decref(list);
    return st;
}
