#include "eval/zeroshot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "eval/jsonl.h"

typedef struct {
    char *text;
    char **lines; /* into text */
    int64_t count;
} class_list;

static bif_status read_classes(const char *path, class_list *classes)
{
    bif_status st = BIF_OK;
    size_t size = 0;
    BIF_TRY(bif_file_read(path, (size_t)64 << 20, &classes->text, &size));
    for (char *save = NULL, *line = strtok_r(classes->text, "\r\n", &save); line != NULL; line = strtok_r(NULL, "\r\n", &save)) {
        classes->lines = bif_realloc(classes->lines, (size_t)classes->count + 1, sizeof *classes->lines);
        classes->lines[classes->count++] = line;
    }
    if (classes->count < 2) {
        st = bif_fail(BIF_ERR_DATA, "%s: holds %lld classes; one prompt a line, two at least", path, (long long)classes->count);
    }
done:
    return st;
}

static bif_status read_label(const bif_jsonl_line *line, const class_list *classes, const char **image, int64_t *label)
{
    bif_status st = BIF_OK;
    const json_t *value = json_object_get(line->object, "label");
    *label = -1;
    BIF_TRY(bif_json_string(line->where, line->object, "image", true, image));
    if (json_is_integer(value)) {
        *label = json_integer_value(value);
    } else if (json_is_string(value)) {
        for (int64_t c = 0; c < classes->count && *label < 0; c++) {
            *label = strcmp(classes->lines[c], json_string_value(value)) == 0 ? c : -1;
        }
    }
    if (*label < 0 || *label >= classes->count) {
        st = bif_fail(BIF_ERR_DATA, "%s: label is missing or not one of the %lld classes", line->where, (long long)classes->count);
    }
done:
    return st;
}

/* Embeddings of the class prompts, [classes, E] in `out` (host-visible device memory of the caller). */
static bif_status embed_classes(bif_session *s, const class_list *classes, bif_arena *arena, bif_batch *batch, const bif_batch_limits *limits,
                                bif_tensor *out)
{
    bif_status st = BIF_OK;
    bif_ids ids = {0}, labels = {0};
    for (int64_t c = 0; c < classes->count; c++) {
        ids.count = labels.count = 0;
        if (s->chat.bos >= 0) {
            bif_ids_push(&ids, s->chat.bos);
        }
        BIF_TRY(bif_tokenizer_encode(s->tokenizer, classes->lines[c], strlen(classes->lines[c]), false, &ids));
        bif_ids_push(&ids, s->chat.eos);
        for (size_t i = 0; i < ids.count; i++) {
            bif_ids_push(&labels, BIF_LABEL_NONE);
        }
        const struct bif_encoded_view view = {.ids = ids.ids, .labels = labels.ids, .count = (int64_t)ids.count};
        bif_batch_clear(batch);
        if ((int64_t)ids.count > s->model.text.positions || !bif_batch_add(batch, limits, &view, NULL, (uint64_t)c)) {
            BIF_TRY(bif_fail(BIF_ERR_DATA, "class '%s' has %zu tokens, the text tower takes %lld", classes->lines[c], ids.count,
                             (long long)s->model.text.positions));
        }
        bif_tensor text, row = bif_rows(out, c, 1);
        bif_clip_forward(&s->clip, s->device, arena, batch, false, NULL, &text);
        s->device->copy(s->device, row.data, text.data, bif_bytes(&row));
    }
done:
    bif_ids_free(&ids);
    bif_ids_free(&labels);
    return st;
}

/* Rank of the label's score among all: 0 = best; ties count against it. */
static int64_t place(const float *scores, int64_t count, int64_t label)
{
    int64_t better = 0;
    for (int64_t c = 0; c < count; c++) {
        better += c != label && !(scores[c] < scores[label]);
    }
    return better;
}

static bif_status classify(bif_session *s, bif_comm *comm, const bif_zeroshot_options *o, const bif_jsonl *file, const class_list *classes,
                           bif_zeroshot_result *result)
{
    bif_status st = BIF_OK;
    const int64_t side = s->model.vit.image, width = s->model.projection, batch_size = o->batch;
    const bif_batch_limits limits = {.tokens = s->model.text.positions, .sequences = 1, .images = batch_size, .image_size = side,
                                     .tokens_per_image = 0};
    bif_batch *batch = bif_batch_new(&limits);
    void *memory = NULL, *rows = NULL;
    float *scores = bif_calloc((size_t)(batch_size * classes->count), sizeof *scores);
    int64_t *labels = bif_calloc((size_t)batch_size, sizeof *labels);
    int root = open(o->image_root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        BIF_TRY(bif_fail_errno(errno, "image root %s", o->image_root));
    }
    const size_t size = bif_clip_measure(&s->clip, s->device, &limits, false);
    BIF_TRY(s->device->alloc(s->device, size, &memory));
    BIF_TRY(s->device->alloc(s->device, (size_t)(classes->count * (width + batch_size)) * sizeof(float), &rows));
    bif_arena arena = bif_arena_over("zero-shot", memory, size);
    bif_tensor prompts = bif_tensor2(rows, BIF_DTYPE_F32, classes->count, width);
    BIF_TRY(embed_classes(s, classes, &arena, batch, &limits, &prompts));
    for (int64_t at = bif_comm_rank(comm) * batch_size; at < file->count; at += bif_comm_world(comm) * batch_size) {
        const int64_t count = file->count - at < batch_size ? file->count - at : batch_size;
        bif_batch_clear(batch);
        batch->images = count;
        for (int64_t i = 0; i < count; i++) {
            const char *image = NULL;
            BIF_TRY(read_label(&file->items[at + i], classes, &image, &labels[i]));
            st = bif_session_image(s, root, o->image_root, image, batch->pixels + i * 3 * side * side);
            if (st != BIF_OK) {
                BIF_TRY(bif_fail_context(st, "%s", file->items[at + i].where));
            }
        }
        bif_tensor images, table = bif_tensor2((float *)rows + classes->count * width, BIF_DTYPE_F32, count, classes->count);
        bif_clip_forward(&s->clip, s->device, &arena, batch, false, &images, NULL);
        bif_linear(s->device, &(bif_linear_args){.x = &images, .w = &prompts, .y = &table});
        s->device->copy_out(s->device, scores, table.data, bif_bytes(&table));
        for (int64_t i = 0; i < count; i++) {
            const int64_t where = place(scores + i * classes->count, classes->count, labels[i]);
            result->correct1 += where == 0;
            result->correct5 += where < 5;
        }
    }
done:
    if (root >= 0) {
        close(root);
    }
    s->device->release(s->device, memory);
    s->device->release(s->device, rows);
    bif_batch_free(batch);
    free(scores);
    free(labels);
    return st;
}

bif_status bif_zeroshot(bif_session *session, bif_comm *comm, const bif_zeroshot_options *options, bif_zeroshot_result *result)
{
    bif_status st = BIF_OK;
    bif_jsonl file = {0};
    class_list classes = {0};
    struct timespec from, to;
    *result = (bif_zeroshot_result){0};
    clock_gettime(CLOCK_MONOTONIC, &from);
    st = read_classes(options->classes, &classes);
    st = st == BIF_OK ? bif_jsonl_read(options->images, 0, &file) : st;
    if (st == BIF_OK && file.count == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: holds no pictures; one JSON object a line is expected", options->images);
    }
    st = st == BIF_OK ? classify(session, comm, options, &file, &classes, result) : st;
    BIF_TRY(bif_comm_agree(comm, st));
    double sums[2] = {(double)result->correct1, (double)result->correct5};
    bif_comm_sum_f64(comm, sums, 2);
    clock_gettime(CLOCK_MONOTONIC, &to);
    *result = (bif_zeroshot_result){.images = file.count, .correct1 = (int64_t)sums[0], .correct5 = (int64_t)sums[1],
                                    .seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec)};
done:
    bif_jsonl_free(&file);
    free(classes.lines);
    free(classes.text);
    return st;
}
