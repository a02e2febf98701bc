#include "eval/vqa.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "eval/jsonl.h"

typedef struct {
    const json_t *id;   /* string or integer; borrowed */
    const json_t *image; /* a name, a list of names, or NULL; borrowed */
    int64_t images;
    const char *question, *answer, *type; /* answer, type NULL when not given */
    const char *where;
} question;

static const char *picture_name(const question *q, int64_t i)
{
    return json_string_value(json_is_array(q->image) ? json_array_get(q->image, (size_t)i) : q->image);
}

static bif_status read_question(const bif_jsonl_line *line, question *q)
{
    bif_status st = BIF_OK;
    *q = (question){.where = line->where, .id = json_object_get(line->object, "question_id")};
    if (!json_is_string(q->id) && !json_is_integer(q->id)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: question_id is missing or neither a string nor an integer", line->where));
    }
    q->image = json_object_get(line->object, "image");
    q->image = json_is_null(q->image) ? NULL : q->image;
    q->images = json_is_array(q->image) ? (int64_t)json_array_size(q->image) : q->image != NULL;
    for (int64_t i = 0; i < q->images; i++) {
        if (picture_name(q, i) == NULL) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: image must be a name or a list of names", line->where));
        }
    }
    /* LLaVA's own question files say text and category. */
    BIF_TRY(bif_json_string(line->where, line->object, "text", false, &q->question));
    BIF_TRY(bif_json_string(line->where, line->object, "question", q->question == NULL, &q->question));
    BIF_TRY(bif_json_string(line->where, line->object, "answer", false, &q->answer));
    BIF_TRY(bif_json_string(line->where, line->object, "category", false, &q->type));
    BIF_TRY(bif_json_string(line->where, line->object, "type", false, &q->type));
done:
    return st;
}

/* Scores are kept by type in a table of fixed size; what does not fit is refused before anything is generated. */
static bif_status check_types(const char *path, const question *questions, int64_t count)
{
    const char *seen[BIF_VQA_TYPES];
    int64_t types = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t t = 0;
        while (t < types && questions[i].type != NULL && strcmp(seen[t], questions[i].type) != 0) {
            t++;
        }
        if (questions[i].type == NULL || t < types) {
            continue;
        }
        if (strlen(questions[i].type) >= BIF_VQA_TYPE_NAME) {
            return bif_fail(BIF_ERR_DATA, "%s: type has %zu bytes, at most %d are taken", questions[i].where, strlen(questions[i].type),
                            BIF_VQA_TYPE_NAME - 1);
        }
        if (types == BIF_VQA_TYPES) {
            return bif_fail(BIF_ERR_DATA, "%s: more than %d types of questions in %s", questions[i].where, BIF_VQA_TYPES, path);
        }
        seen[types++] = questions[i].type;
    }
    return BIF_OK;
}

/* White space and one period around an answer do not count, nor does case. */
static bool same_answer(const char *a, const char *b)
{
    const char *text[2] = {a, b};
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        while (isspace((unsigned char)*text[i])) {
            text[i]++;
        }
        size[i] = strlen(text[i]);
        while (size[i] > 0 && isspace((unsigned char)text[i][size[i] - 1])) {
            size[i]--;
        }
        if (size[i] > 0 && text[i][size[i] - 1] == '.') {
            size[i]--;
        }
    }
    return size[0] == size[1] && strncasecmp(text[0], text[1], size[0]) == 0;
}

typedef struct {
    bif_session *session;
    const bif_vqa_options *options;
    int root_fd;
    int64_t picture;      /* bytes of a picture */
    int64_t most;         /* pictures of a question */
    bif_generator *generator;
    bif_encoded *prompts; /* [batch] */
    bif_request *requests;
    bif_ids *answers;
    uint8_t *pixels;      /* [batch, most, S, S, 3] */
} worker;

static bif_status answer_batch(worker *w, const question *questions, int64_t count, char **predictions)
{
    bif_status st = BIF_OK;
    const char *loaded = NULL; /* questions about one picture often stand together: it is decoded once */
    const uint8_t *decoded = NULL;
    for (int64_t i = 0; i < count; i++) {
        const question *q = &questions[i];
        uint8_t *pixels = w->pixels + i * w->most * w->picture;
        bif_encoded_free(&w->prompts[i]);
        BIF_TRY(bif_chat_prompt(&w->session->chat, q->question, q->images, &w->prompts[i]));
        w->requests[i] = (bif_request){.prompt = &w->prompts[i], .pixels = pixels, .images = q->images};
        for (int64_t k = 0; k < q->images; k++, pixels += w->picture) {
            const char *name = picture_name(q, k);
            if (w->options->blank) {
                bif_preprocess_blank(&w->session->preprocess, 1, pixels);
            } else if (loaded != NULL && strcmp(loaded, name) == 0) {
                memcpy(pixels, decoded, (size_t)w->picture);
            } else {
                st = bif_session_image(w->session, w->root_fd, w->options->image_root, name, pixels);
                if (st != BIF_OK) {
                    BIF_TRY(bif_fail_context(st, "%s", q->where));
                }
            }
            loaded = name;
            decoded = pixels;
        }
    }
    BIF_TRY(bif_generate(w->generator, w->requests, count, w->answers));
    for (int64_t i = 0; i < count; i++) {
        BIF_TRY(bif_answer_text(w->session, &w->answers[i], &predictions[i]));
    }
done:
    return st;
}

static bif_status worker_open(bif_session *session, const bif_vqa_options *options, const question *questions, int64_t count, worker *w)
{
    bif_status st = BIF_OK;
    *w = (worker){.session = session, .options = options, .root_fd = -1};
    const int64_t side = session->model.kind == BIF_MODEL_LLAVA ? session->model.vit.image : 0, batch = options->batch;
    int64_t longest = 1, bytes = 0;
    w->picture = 3 * side * side;
    w->prompts = bif_calloc((size_t)batch, sizeof *w->prompts);
    w->requests = bif_calloc((size_t)batch, sizeof *w->requests);
    w->answers = bif_calloc((size_t)batch, sizeof *w->answers);
    for (int64_t i = 0; i < count; i++) {
        bif_encoded prompt = {0};
        w->most = questions[i].images > w->most ? questions[i].images : w->most;
        if (questions[i].images > 0 && session->model.kind != BIF_MODEL_LLAVA) {
            BIF_TRY(bif_fail(BIF_ERR_USAGE, "%s: has a picture, but %s is a decoder alone and cannot look at it; name a LLaVA checkpoint",
                             questions[i].where, session->folder));
        }
        st = bif_chat_prompt(&session->chat, questions[i].question, questions[i].images, &prompt);
        longest = (int64_t)prompt.ids.count > longest ? (int64_t)prompt.ids.count : longest;
        bif_encoded_free(&prompt);
        if (st != BIF_OK) {
            BIF_TRY(bif_fail_context(st, "%s", questions[i].where));
        }
    }
    if (!bif_mul_i64(batch * w->most, w->picture, &bytes)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "%s: a question with %lld pictures", options->questions, (long long)w->most));
    }
    w->pixels = bif_calloc((size_t)bytes, sizeof *w->pixels);
    if (w->most > 0 && !options->blank) {
        w->root_fd = open(options->image_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (w->root_fd < 0) {
            BIF_TRY(bif_fail_errno(errno, "image root %s", options->image_root));
        }
    }
    BIF_TRY(bif_generator_new(session, batch, longest, w->most, options->max_new, &w->generator));
done:
    return st;
}

static void worker_close(worker *w)
{
    for (int64_t i = 0; w->prompts != NULL && i < w->options->batch; i++) {
        bif_encoded_free(&w->prompts[i]);
        bif_ids_free(&w->answers[i]);
    }
    bif_generator_free(w->generator);
    free(w->prompts);
    free(w->requests);
    free(w->answers);
    free(w->pixels);
    if (w->root_fd >= 0) {
        close(w->root_fd);
    }
}

/* Brings every rank's predictions to rank 0: one JSON array of [index, text] pairs a rank. */
static bif_status collect(bif_comm *comm, char **predictions, int64_t count)
{
    bif_status st = BIF_OK;
    json_t *mine = json_array();
    for (int64_t i = 0; i < count; i++) {
        if (predictions[i] != NULL) {
            json_array_append_new(mine, json_pack("[I,s]", (json_int_t)i, predictions[i]));
        }
    }
    char *text = json_dumps(mine, JSON_COMPACT), **parts = NULL;
    size_t *sizes = NULL;
    json_decref(mine);
    bif_comm_gather_bytes(comm, text, strlen(text), &parts, &sizes);
    free(text);
    for (int r = 0; parts != NULL && r < bif_comm_world(comm); r++) {
        json_t *part = NULL, *pair;
        size_t k;
        if (r > 0 && st == BIF_OK && (st = bif_json_parse("predictions of another rank", parts[r], sizes[r], &part)) == BIF_OK) {
            json_array_foreach(part, k, pair) {
                predictions[json_integer_value(json_array_get(pair, 0))] = bif_strdup(json_string_value(json_array_get(pair, 1)));
            }
        }
        json_decref(part);
        free(parts[r]);
    }
    free(parts);
    free(sizes);
    return st;
}

static void count_answer(bif_vqa_result *result, const question *q, bool correct)
{
    result->scored++;
    result->correct += correct;
    if (q->type == NULL) {
        return;
    }
    int64_t t = 0;
    while (t < result->types && strcmp(result->type[t].name, q->type) != 0) {
        t++;
    }
    if (t == result->types) {
        snprintf(result->type[t].name, sizeof result->type[t].name, "%s", q->type);
        result->types++;
    }
    result->type[t].scored++;
    result->type[t].correct += correct;
}

static bif_status write_predictions(const bif_vqa_options *options, const question *questions, int64_t count, char *const *predictions)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    BIF_TRY(bif_writer_open(options->output, &writer));
    for (int64_t i = 0; i < count; i++) {
        const question *q = &questions[i];
        json_t *row = json_pack("{s:O,s:O?,s:s,s:s,s:s?}", "question_id", q->id, "image", q->image, "question", q->question,
                                "prediction", predictions[i],
                                "answer", q->answer);
        char *text = json_dumps(row, JSON_COMPACT);
        json_decref(row);
        st = bif_writer_write(writer, text, strlen(text));
        st = st == BIF_OK ? bif_writer_write(writer, "\n", 1) : st;
        free(text);
        BIF_TRY(st);
    }
    st = bif_writer_commit(writer);
    writer = NULL;
done:
    bif_writer_abandon(writer);
    return st;
}

bif_status bif_vqa(bif_session *session, bif_comm *comm, const bif_vqa_options *options, bif_vqa_result *result)
{
    bif_status st = BIF_OK;
    bif_jsonl file = {0};
    question *questions = NULL;
    char **predictions = NULL;
    worker w = {.options = options, .root_fd = -1};
    struct timespec from, to;
    const int64_t rank = bif_comm_rank(comm), world = bif_comm_world(comm);
    *result = (bif_vqa_result){0};
    st = bif_jsonl_read(options->questions, options->limit, &file);
    if (st == BIF_OK && file.count == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: holds no questions; one JSON object a line is expected", options->questions);
    }
    questions = bif_calloc((size_t)file.count, sizeof *questions);
    predictions = bif_calloc((size_t)file.count, sizeof *predictions);
    for (int64_t i = 0; st == BIF_OK && i < file.count; i++) {
        st = read_question(&file.items[i], &questions[i]);
    }
    st = st == BIF_OK ? check_types(options->questions, questions, file.count) : st;
    if (st == BIF_OK) {
        st = worker_open(session, options, questions, file.count, &w);
    }
    BIF_TRY(bif_comm_agree(comm, st));
    clock_gettime(CLOCK_MONOTONIC, &from);
    /* Batches are dealt in turn; a failure is agreed on at the end, when every rank has left the loop. */
    for (int64_t at = rank * options->batch; st == BIF_OK && at < file.count; at += world * options->batch) {
        const int64_t count = file.count - at < options->batch ? file.count - at : options->batch;
        st = answer_batch(&w, questions + at, count, predictions + at);
        bif_progress("%lld of %lld questions", (long long)(at + count), (long long)file.count);
    }
    BIF_TRY(bif_comm_agree(comm, st));
    BIF_TRY(bif_comm_agree(comm, collect(comm, predictions, file.count)));
    clock_gettime(CLOCK_MONOTONIC, &to);
    result->seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    result->questions = file.count;
    if (rank == 0) {
        for (int64_t i = 0; i < file.count; i++) {
            if (questions[i].answer != NULL) {
                count_answer(result, &questions[i], same_answer(predictions[i], questions[i].answer));
            }
        }
        st = write_predictions(options, questions, file.count, predictions);
    }
    BIF_TRY(bif_comm_agree(comm, st));
done:
    worker_close(&w);
    for (int64_t i = 0; i < file.count; i++) {
        free(predictions[i]);
    }
    free(predictions);
    free(questions);
    bif_jsonl_free(&file);
    return st;
}
