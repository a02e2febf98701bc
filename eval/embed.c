#include "eval/embed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

typedef struct {
    bif_session *session;
    bif_batch *batch;
    bif_batch_limits limits;
    bif_arena arena;
    void *memory;
    const char *root; /* NULL: texts */
    int root_fd;
    bool cut;
} embedder;

static void embedder_close(embedder *e)
{
    if (e->root_fd >= 0) {
        close(e->root_fd);
    }
    if (e->memory != NULL) {
        e->session->device->release(e->session->device, e->memory);
    }
    bif_batch_free(e->batch);
}

static bif_status embedder_open(embedder *e)
{
    bif_status st = BIF_OK;
    bif_device *device = e->session->device;
    if (e->root != NULL) {
        e->root_fd = open(e->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (e->root_fd < 0) {
            BIF_TRY(bif_fail_errno(errno, "image root %s", e->root));
        }
    }
    e->batch = bif_batch_new(&e->limits);
    const size_t size = bif_clip_measure(&e->session->clip, device, &e->limits, false);
    BIF_TRY(device->alloc(device, size, &e->memory));
    e->arena = bif_arena_over("embeddings", e->memory, size);
done:
    return st;
}

static bif_status add_image(embedder *e, const bif_embed_item *item)
{
    const int64_t side = e->session->model.vit.image;
    uint8_t *pixels = e->batch->pixels + e->batch->images * 3 * side * side;
    const bif_status st = item->shard != NULL ? bif_session_image_shard(e->session, item->shard, item->number, pixels)
                                              : bif_session_image(e->session, e->root_fd, e->root, item->value, pixels);
    e->batch->images++;
    return st == BIF_OK ? st : bif_fail_context(st, "%s", item->where);
}

bif_status bif_embed_ids(const bif_session *s, const bif_embed_item *item, bool cut, bif_ids *ids)
{
    char *where = bif_format("%s: '%.200s'", item->where, item->value);
    const bif_status st = bif_chat_caption(&s->chat, where, item->value, strlen(item->value), cut, ids);
    free(where);
    return st;
}

static bif_status add_text(embedder *e, const bif_embed_item *item)
{
    bif_status st = BIF_OK;
    bif_ids ids = {0}, labels = {0};
    BIF_TRY(bif_embed_ids(e->session, item, e->cut, &ids));
    for (size_t i = 0; i < ids.count; i++) {
        bif_ids_push(&labels, BIF_LABEL_NONE);
    }
    const struct bif_encoded_view view = {.ids = ids.ids, .labels = labels.ids, .count = (int64_t)ids.count};
    BIF_BUG_IF(!bif_batch_add(e->batch, &e->limits, &view, NULL, 0), "a text of %zu tokens does not fit", ids.count);
done:
    bif_ids_free(&ids);
    bif_ids_free(&labels);
    return st;
}

/* Batch c is rank c % world's. */
static bif_status embed_own(embedder *e, const bif_comm *comm, int64_t batch, const bif_embed_item *items, int64_t count, float *out)
{
    bif_status st = BIF_OK;
    bif_session *s = e->session;
    const int64_t width = s->model.projection, world = bif_comm_world(comm);
    BIF_TRY(embedder_open(e));
    for (int64_t at = bif_comm_rank(comm) * batch; at < count; at += world * batch) {
        const int64_t end = at + batch < count ? at + batch : count;
        bif_batch_clear(e->batch);
        for (int64_t i = at; i < end; i++) {
            BIF_TRY(e->root != NULL ? add_image(e, &items[i]) : add_text(e, &items[i]));
        }
        bif_tensor rows;
        bif_clip_forward(&s->clip, s->device, &e->arena, e->batch, false, e->root != NULL ? &rows : NULL, e->root != NULL ? NULL : &rows);
        s->device->copy_out(s->device, out + at * width, rows.data, bif_bytes(&rows));
    }
done:
    return st;
}

static bif_status embed(embedder *e, bif_comm *comm, int64_t batch, const bif_embed_item *items, int64_t count, float *out)
{
    const int64_t width = e->session->model.projection;
    const bif_status st = bif_comm_agree(comm, embed_own(e, comm, batch, items, count, out));
    embedder_close(e);
    for (int64_t at = 0, owner = 0; st == BIF_OK && at < count; at += batch, owner = (owner + 1) % bif_comm_world(comm)) {
        const int64_t rows = count - at < batch ? count - at : batch;
        bif_comm_broadcast(comm, out + at * width, (size_t)(rows * width) * sizeof *out, (int)owner);
    }
    return st;
}

bif_status bif_embed_images(bif_session *session, bif_comm *comm, const char *root, int64_t batch, const bif_embed_item *items,
                            int64_t count, float *out)
{
    embedder e = {.session = session, .root = root, .root_fd = -1,
                  .limits = {.tokens = 1, .sequences = 1, .images = batch, .image_size = session->model.vit.image}};
    return embed(&e, comm, batch, items, count, out);
}

bif_status bif_embed_texts(bif_session *session, bif_comm *comm, int64_t batch, bool cut, const bif_embed_item *items, int64_t count,
                           float *out)
{
    embedder e = {.session = session, .root_fd = -1, .cut = cut,
                  .limits = {.tokens = batch * session->model.text.positions, .sequences = batch}};
    return embed(&e, comm, batch, items, count, out);
}

static bif_status score_own(bif_device *device, const bif_comm *comm, const bif_scores_args *a, float *scores, void **memory)
{
    bif_status st = BIF_OK;
    const int64_t batch = a->batch < a->rows ? a->batch : a->rows;
    bif_arena arena = bif_arena_measure("scores");
    bif_tensor x, w, b, y;
    for (int pass = 0; pass < 2; pass++) {
        w = bif_take2(&arena, BIF_DTYPE_F32, a->columns, a->width);
        b = bif_take1(&arena, BIF_DTYPE_F32, a->bias != NULL ? a->columns : 0);
        x = bif_take2(&arena, BIF_DTYPE_F32, batch, a->width);
        y = bif_take2(&arena, BIF_DTYPE_F32, batch, a->columns);
        if (pass == 0) {
            BIF_TRY(device->alloc(device, arena.peak, memory));
            arena = bif_arena_over("scores", *memory, arena.peak);
        }
    }
    device->copy_in(device, w.data, a->b, bif_bytes(&w));
    if (a->bias != NULL) {
        device->copy_in(device, b.data, a->bias, bif_bytes(&b));
    }
    for (int64_t at = bif_comm_rank(comm) * batch; at < a->rows; at += bif_comm_world(comm) * batch) {
        const int64_t count = a->rows - at < batch ? a->rows - at : batch;
        bif_tensor rows = bif_rows(&x, 0, count), out = bif_rows(&y, 0, count);
        device->copy_in(device, rows.data, a->a + at * a->width, bif_bytes(&rows));
        bif_linear(device, &(bif_linear_args){.x = &rows, .w = &w, .b = a->bias != NULL ? &b : NULL, .y = &out});
        device->copy_out(device, scores, out.data, bif_bytes(&out));
        for (int64_t i = 0; i < count; i++) {
            a->row(a->context, at + i, scores + i * a->columns);
        }
    }
done:
    return st;
}

bif_status bif_scores(bif_device *device, bif_comm *comm, const bif_scores_args *args)
{
    void *memory = NULL;
    float *scores = bif_calloc((size_t)(args->batch * args->columns), sizeof *scores);
    const bif_status st = bif_comm_agree(comm, score_own(device, comm, args, scores, &memory));
    if (memory != NULL) {
        device->release(device, memory);
    }
    free(scores);
    return st;
}

int64_t bif_place(const float *scores, int64_t count, int64_t label)
{
    int64_t better = 0;
    for (int64_t c = 0; c < count; c++) {
        better += c != label && !(scores[c] < scores[label]);
    }
    return better;
}
