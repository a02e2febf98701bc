#include "eval/vqa.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "eval/record.h"

/* Scores are kept by type in a table of fixed size; what does not fit is refused before anything is generated. */
static bif_status check_types(const char *path, const bif_questions *set)
{
    const char *seen[BIF_VQA_TYPES];
    int64_t types = 0;
    for (int64_t i = 0; i < set->count; i++) {
        const bif_question *q = &set->items[i];
        int64_t t = 0;
        while (t < types && q->type != NULL && strcmp(seen[t], q->type) != 0) {
            t++;
        }
        if (q->type == NULL || t < types) {
            continue;
        }
        if (strlen(q->type) >= BIF_VQA_TYPE_NAME) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: type has %zu bytes, at most %d are taken", q->file, (long long)q->line, strlen(q->type),
                            BIF_VQA_TYPE_NAME - 1);
        }
        if (types == BIF_VQA_TYPES) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: more than %d types of questions in %s", q->file, (long long)q->line, BIF_VQA_TYPES,
                            path);
        }
        seen[types++] = q->type;
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

/* ---- sharing ---- */

typedef struct {
    bif_comm *comm;
    bif_counter *counter;
    bif_record *record;
    const bif_vqa_options *options;
    int64_t *order; /* [left] questions still to be asked, as bif_asker_order has them */
    int64_t *cut, units; /* [units + 1] */
    int64_t count, left; /* of all questions */
    struct timespec began, told;
} sharing;

static double since(const struct timespec *from)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - from->tv_sec) + 1e-9 * (double)(now.tv_nsec - from->tv_nsec);
}

/* The same on all ranks: what is left, and cut into units of work. Towards the end of the list units of several ranks become smaller than a
 * batch, so that ranks get done together. */
static void cut_units(sharing *s, const bool *answered, const int64_t *order)
{
    const int64_t world = bif_comm_world(s->comm), batch = s->options->batch, least = (batch + 7) / 8;
    s->order = bif_calloc((size_t)s->count, sizeof *s->order);
    s->cut = bif_calloc((size_t)s->count + 1, sizeof *s->cut);
    for (int64_t i = 0; i < s->count; i++) {
        if (!answered[order[i]]) {
            s->order[s->left++] = order[i];
        }
    }
    for (int64_t at = 0; at < s->left;) {
        int64_t size = world == 1 ? batch : (s->left - at + 2 * world - 1) / (2 * world);
        size = size < least ? least : size;
        size = size > batch ? batch : size;
        at = s->left - at < size ? s->left : at + size;
        s->cut[++s->units] = at;
    }
}

/* handed: questions that are given out. With unequal ranks and units this is a guess, but a fair one. */
static void tell(sharing *s, int64_t handed)
{
    const double seconds = since(&s->began);
    if (handed <= 0 || seconds <= 0.0) {
        return;
    }
    const double speed = (double)handed / seconds, rest = (double)(s->left - handed) / speed;
    char text[160];
    snprintf(text, sizeof text, "%lld of %lld questions, %.3g a second, %lld:%02lld:%02lld left", (long long)(s->count - s->left + handed),
             (long long)s->count, speed, (long long)rest / 3600, (long long)rest / 60 % 60, (long long)rest % 60);
    bif_progress("%s", text);
    if (since(&s->told) > 60.0) { /* for logs */
        bif_info("%s", text);
        clock_gettime(CLOCK_MONOTONIC, &s->told);
    }
}

/* Units are taken until none is left. A failure takes all that are left, so that the other ranks come to the end as well; it is agreed on
 * there. */
static bif_status ask_all(sharing *s, bif_asker *asker, char **predictions)
{
    bif_status st = BIF_OK;
    char **found = bif_calloc((size_t)s->options->batch, sizeof *found);
    clock_gettime(CLOCK_MONOTONIC, &s->began);
    s->told = s->began;
    for (int64_t unit; st == BIF_OK && (unit = bif_counter_add(s->counter, 1)) < s->units;) {
        const int64_t *which = s->order + s->cut[unit], count = s->cut[unit + 1] - s->cut[unit];
        tell(s, s->cut[unit]);
        st = bif_ask(asker, which, count, found);
        st = st == BIF_OK ? bif_record_add(s->record, which, found, count) : st;
        for (int64_t i = 0; i < count; i++) {
            predictions[which[i]] = found[i];
            found[i] = NULL;
        }
    }
    if (st != BIF_OK) {
        bif_counter_add(s->counter, s->units);
    }
    free(found);
    return st;
}

static void poll_counter(void *context)
{
    const sharing *s = context;
    if (s->counter != NULL) {
        bif_counter_poll(s->counter);
    }
}

/* Brings every rank's predictions to rank 0, which has those of earlier starts: one JSON array of [index, text] pairs a rank. */
bif_status bif_vqa_collect(bif_comm *comm, char **predictions, int64_t count)
{
    bif_status st = BIF_OK;
    json_t *mine = json_array();
    for (int64_t i = 0; bif_comm_rank(comm) > 0 && i < count; i++) {
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
            json_array_foreach (part, k, pair) {
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

/* ---- results ---- */

static void count_answer(bif_vqa_result *result, const bif_question *q, bool correct)
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

static bool is_right(const bif_question *q, const char *prediction)
{
    bool right = same_answer(prediction, q->answer);
    for (int64_t k = 1; k < q->answer_count && !right; k++) {
        right = same_answer(prediction, q->answers[k]);
    }
    return right;
}

/* As the question has it. */
static json_t *answer_of(const bif_question *q)
{
    if (q->answer_count == 0) {
        return q->answer != NULL ? json_string(q->answer) : json_null();
    }
    json_t *list = json_array();
    for (int64_t k = 0; k < q->answer_count; k++) {
        json_array_append_new(list, json_string(q->answers[k]));
    }
    return list;
}

static json_t *image_of(const bif_question *q)
{
    if (!q->list && q->images < 2) {
        return q->images == 0 ? NULL : bif_json_text(q->pictures[0].name);
    }
    json_t *list = json_array();
    for (int64_t i = 0; i < q->images; i++) {
        json_array_append_new(list, bif_json_text(q->pictures[i].name));
    }
    return list;
}

bif_status bif_vqa_write(const char *path, const bif_questions *set, char *const *predictions)
{
    bif_status st = BIF_OK;
    bif_writer *writer = NULL;
    BIF_TRY(bif_writer_open(path, &writer));
    for (int64_t i = 0; i < set->count; i++) {
        const bif_question *q = &set->items[i];
        json_t *row = json_pack("{s:o,s:o?,s:s,s:s,s:o}", "question_id", json_loads(q->id, JSON_DECODE_ANY, NULL), "image", image_of(q),
                                "question", q->prompt, "prediction", predictions[i], "answer", answer_of(q));
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

/* What an answer depends on. */
static json_t *identity_of(const bif_session *session, const bif_vqa_options *options, const bif_questions *set, const bif_asker *asker)
{
    char questions[33], weights[33];
    const bif_preprocess *p = &session->preprocess;
    char *pictures = session->model.kind != BIF_MODEL_LLAVA
                         ? bif_strdup("none")
                         : bif_format("%lld, fit %d, mean %.9g %.9g %.9g, std %.9g %.9g %.9g", (long long)p->size, (int)p->fit, p->mean[0],
                                      p->mean[1], p->mean[2], p->std[0], p->std[1], p->std[2]);
    char *decoding = options->way == BIF_ASK_DECODE
                         ? bif_decoding_text(&options->decoding)
                         : bif_format("options ranked by %s of log-probabilities", options->way == BIF_ASK_RANK_SUM ? "sum" : "mean");
    char *looked = bif_format("%s, image=%s", options->source.shard_count > 0 ? "of shards" : options->source.image_root,
                              bif_ablate_name(options->ablate));
    bif_questions_digest(set, questions);
    bif_params_digest(&session->vlm.params, false, weights); /* nothing trains */
    json_t *identity = json_pack("{s:s,s:s,s:s,s:o,s:s,s:s,s:s}", "questions", questions, "prompts", bif_asker_digest(asker), "checkpoint",
                                 weights, "pictures", bif_json_text(looked), "preprocessing", pictures, "decoding", decoding, "device",
                                 session->device->kind == BIF_DEVICE_CPU ? "cpu" : "cuda");
    free(decoding);
    free(looked);
    free(pictures);
    return identity;
}

/* All ranks must have read the same list, for they share it by number. */
bif_status bif_vqa_same_list(bif_comm *comm, const bif_questions *set, const char *path)
{
    char mine[33], first[33];
    bif_questions_digest(set, mine);
    memcpy(first, mine, sizeof first);
    bif_comm_broadcast(comm, first, sizeof first, 0);
    return memcmp(first, mine, sizeof first) == 0 ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: is not the same file as that of rank 0", path);
}

bif_status bif_vqa(bif_session *session, bif_comm *comm, const bif_vqa_options *options, bif_vqa_result *result)
{
    bif_status st = BIF_OK;
    const int rank = bif_comm_rank(comm);
    const char *first = bif_prompt_source_name(&options->source);
    bif_questions set = {.limit = options->limit};
    char **predictions = NULL;
    bool *answered = NULL, written = false;
    bif_asker *asker = NULL;
    sharing share = {.comm = comm, .options = options};
    const bif_ask_options ask = {.image_root = options->source.image_root,
                                 .batch = options->batch,
                                 .decoding = options->decoding,
                                 .way = options->way,
                                 .threads = options->threads,
                                 .ablate = options->ablate,
                                 .between = poll_counter,
                                 .context = &share};
    *result = (bif_vqa_result){0};
    st = bif_prompt_read(&options->prompt, &options->source, &set);
    for (int64_t i = 0; i < set.count && options->way != BIF_ASK_DECODE; i++) { /* what is asked, and written down as asked */
        set.items[i].prompt = set.items[i].bare != NULL ? set.items[i].bare : set.items[i].prompt;
    }
    st = st == BIF_OK ? check_types(first, &set) : st;
    st = st == BIF_OK ? bif_asker_new(session, &set, &ask, &asker) : st;
    st = st == BIF_OK && rank == 0 ? bif_asker_find_pictures(asker) : st;
    BIF_TRY(bif_comm_agree(comm, st));
    BIF_TRY(bif_comm_agree(comm, bif_vqa_same_list(comm, &set, first)));
    predictions = bif_calloc((size_t)set.count, sizeof *predictions);
    answered = bif_calloc((size_t)set.count, sizeof *answered);
    result->identity = rank == 0 ? identity_of(session, options, &set, asker) : NULL;
    BIF_TRY(bif_record_open(comm, options->output, result->identity, options->restart, set.count, predictions, answered, &share.record));
    snprintf(result->prompts, sizeof result->prompts, "%s", bif_asker_digest(asker));
    share.count = result->questions = set.count;
    cut_units(&share, answered, bif_asker_order(asker));
    result->kept = set.count - share.left;
    if (result->kept > 0) {
        bif_info("%lld of %lld questions were answered before; going on", (long long)result->kept, (long long)set.count);
    }
    share.counter = bif_counter_new(comm);
    st = ask_all(&share, asker, predictions);
    result->seconds = since(&share.began);
    BIF_TRY(bif_comm_agree(comm, st));
    BIF_TRY(bif_comm_agree(comm, bif_vqa_collect(comm, predictions, set.count)));
    if (rank == 0) {
        for (int64_t i = 0; i < set.count; i++) {
            if (set.items[i].answer != NULL) {
                count_answer(result, &set.items[i], is_right(&set.items[i], predictions[i]));
            }
        }
        st = bif_vqa_write(options->output, &set, predictions);
    }
    written = (st = bif_comm_agree(comm, st)) == BIF_OK;
done:
    bif_counter_free(share.counter);
    if (share.record != NULL) { /* opened on all ranks, or on none */
        double sums[2] = {(double)bif_record_answers(share.record), (double)bif_asker_cut(asker)};
        bif_comm_sum_f64(comm, sums, 2);
        result->cut = (int64_t)sums[1];
        bif_record_close(share.record, written || sums[0] == 0.0);
    }
    bif_asker_free(asker);
    for (int64_t i = 0; predictions != NULL && i < set.count; i++) {
        free(predictions[i]);
    }
    free(predictions);
    free(answered);
    free(share.order);
    free(share.cut);
    bif_questions_free(&set);
    if (st != BIF_OK) {
        json_decref(result->identity);
        result->identity = NULL;
    }
    return st;
}
