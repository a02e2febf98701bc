/* Ops that move rows, against plain loops. All are exact copies or short sums. */
#include "ref.h"

static bif_tensor distinct(int64_t n, int64_t among)
{
    bif_tensor t = ref_i32(n, 0, 1, 1);
    int32_t *index = t.data;
    for (int64_t i = 0; i < n; i++) {
        index[i] = i % 5 == 3 ? -1 : (int32_t)bif_permute(7, 1, (uint64_t)among, (uint64_t)i);
    }
    return t;
}

Test(rows, embedding)
{
    for (int i = 0; i < REF_SIZES * REF_SIZES; i++) {
        int64_t t = ref_sizes[i / REF_SIZES], c = ref_sizes[i % REF_SIZES], vocabulary = 11;
        bif_tensor table = ref_f32(vocabulary, c, 1), ids = ref_i32(t, -2, 11, 2), dy = ref_f32(t, c, 3), start = ref_f32(t, c, 4);
        double *y = ref_double(&start), *dtable = ref_double(&table);
        for (int64_t r = 0; r < t; r++) {
            int32_t id = ((int32_t *)ids.data)[r];
            for (int64_t j = 0; id >= 0 && j < c; j++) {
                y[r * c + j] = ((float *)table.data)[id * c + j];
                dtable[id * c + j] += ((float *)dy.data)[r * c + j];
            }
        }
        REF_EACH_DEVICE (device) {
            bif_tensor got = ref_copy(&start), dgot = ref_copy(&table);
            bif_embedding(device, &(bif_embedding_args){.table = &table, .ids = &ids, .y = &got});
            bif_embedding_backward(device, &(bif_embedding_backward_args){.ids = &ids, .dy = &dy, .dtable = &dgot});
            ref_close("embedding", got.data, y, t * c, 0);
            ref_close("dtable", dgot.data, dtable, vocabulary * c, 1e-5);
        }
        ref_done();
    }
}

Test(rows, gather_scatter_add)
{
    for (int i = 0; i < REF_SIZES * REF_SIZES; i++) {
        int64_t r = ref_sizes[i / REF_SIZES], c = ref_sizes[i % REF_SIZES], t = r + 3;
        bif_tensor many = ref_f32(t, c, 1), few = ref_f32(r, c, 2), index = distinct(r, t), repeated = ref_i32(r, -1, 3, 3);
        bif_tensor pos = ref_i32(r, 0, (int32_t)t, 4);
        double *gathered = ref_double(&few), *scattered = ref_double(&many), *added = ref_double(&many), *placed = ref_double(&few);
        for (int64_t k = 0; k < r; k++) {
            int32_t at = ((int32_t *)index.data)[k], twice = ((int32_t *)repeated.data)[k];
            for (int64_t j = 0; j < c; j++) {
                if (at >= 0) {
                    gathered[k * c + j] = ((float *)many.data)[at * c + j];
                    scattered[at * c + j] = ((float *)few.data)[k * c + j];
                }
                if (twice >= 0) {
                    added[twice * c + j] += ((float *)few.data)[k * c + j];
                }
                placed[k * c + j] += ((float *)many.data)[((int32_t *)pos.data)[k] * c + j];
            }
        }
        REF_EACH_DEVICE (device) {
            bif_tensor a = ref_copy(&few), b = ref_copy(&many), d = ref_copy(&many), e = ref_copy(&few);
            bif_gather_rows(device, &(bif_gather_rows_args){.src = &many, .index = &index, .dst = &a});
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &few, .index = &index, .dst = &b});
            bif_scatter_rows(device, &(bif_scatter_rows_args){.src = &few, .index = &repeated, .add = true, .dst = &d});
            bif_add_rows(device, &(bif_add_rows_args){.table = &many, .pos = &pos, .y = &e});
            ref_close("gather", a.data, gathered, r * c, 0);
            ref_close("scatter", b.data, scattered, t * c, 0);
            ref_close("scatter add", d.data, added, t * c, ref_stored(1e-5));
            ref_close("add rows", e.data, placed, r * c, ref_stored(1e-5));
        }
        ref_done();
    }
}

Test(rows, patchify)
{
    static const int64_t patches[] = {1, 2, 7, 14}, sides[] = {14, 31, 33};
    for (int i = 0; i < 12; i++) {
        int64_t p = patches[i % 4], s = sides[i / 4], n = 3, side = s / p, k = 3 * p * p;
        bif_tensor flat = ref_f32(n * 3 * s * s, 0, 1);
        bif_tensor pixels = bif_tensor4(flat.data, BIF_DTYPE_F32, n, 3, s, s);
        double *wanted = ref_zeros(n * side * side * k);
        for (int64_t j = 0; j < n * side * side * k; j++) {
            int64_t row = j / k, image = row / (side * side), py = row / side % side, px = row % side;
            int64_t channel = j % k / (p * p), y = j % (p * p) / p, x = j % p;
            wanted[j] = ((float *)flat.data)[((image * 3 + channel) * s + py * p + y) * s + px * p + x];
        }
        /* The same as levels: channels last, looked up in a table. */
        bif_tensor table = ref_f32(3, 256, 2), levels = bif_tensor4(ref_block((size_t)bif_numel(&flat)), BIF_DTYPE_U8, n, s, s, 3);
        double *looked_up = ref_zeros(n * side * side * k);
        for (int64_t j = 0; j < bif_numel(&flat); j++) {
            ((uint8_t *)levels.data)[j] = (uint8_t)(bif_rng_uniform(3, BIF_RNG_TEST, 0, (uint32_t)j) * 256);
        }
        for (int64_t j = 0; j < n * side * side * k; j++) {
            int64_t row = j / k, image = row / (side * side), py = row / side % side, px = row % side;
            int64_t channel = j % k / (p * p), y = j % (p * p) / p, x = j % p;
            int64_t at = ((image * s + py * p + y) * s + px * p + x) * 3 + channel;
            looked_up[j] = ((float *)table.data)[channel * 256 + ((uint8_t *)levels.data)[at]];
        }
        REF_EACH_DEVICE (device) {
            bif_tensor rows = ref_f32(n * side * side, k, 0), same = ref_f32(n * side * side, k, 0);
            bif_patchify(device, &(bif_patchify_args){.pixels = &pixels, .patch = p, .rows = &rows});
            bif_patchify(device, &(bif_patchify_args){.pixels = &levels, .table = &table, .patch = p, .rows = &same});
            ref_close("patchify", rows.data, wanted, n * side * side * k, 0);
            ref_close("patchify of levels", same.data, looked_up, n * side * side * k, 0);
        }
        ref_done();
    }
}

Test(rows, vit_embed)
{
    for (int i = 0; i < 2 * REF_SIZES * REF_SIZES; i++) {
        int64_t p = ref_sizes[i / REF_SIZES % REF_SIZES], c = ref_sizes[i % REF_SIZES], images = 3;
        int64_t cls = i / (REF_SIZES * REF_SIZES), rows = p + cls;
        bif_tensor patches = ref_f32(images * p, c, 1), class = ref_f32(c, 0, 2), pos = ref_f32(rows, c, 3), dx = ref_f32(images * rows, c, 4);
        double *x = ref_zeros(images * rows * c), *dpatches = ref_zeros(images * p * c);
        double *dcls = ref_double(&class), *dpos = ref_double(&pos);
        for (int64_t j = 0; j < images * rows * c; j++) {
            int64_t image = j / c / rows, row = j / c % rows, column = j % c, from = (image * p + row - cls) * c + column;
            double d = ((float *)dx.data)[j];
            x[j] = ((float *)pos.data)[row * c + column];
            x[j] += row < cls ? ((float *)class.data)[column] : ((float *)patches.data)[from];
            dpos[row * c + column] += d;
            if (row < cls) {
                dcls[column] += d;
            } else {
                dpatches[from] = d;
            }
        }
        REF_EACH_DEVICE (device) {
            bif_tensor got = ref_f32(images * rows, c, 0), a = ref_f32(images * p, c, 0), b = ref_copy(&class), d = ref_copy(&pos);
            bif_vit_embed(device, &(bif_vit_embed_args){
                                      .patches = &patches, .cls = cls ? &class : NULL, .pos = &pos, .images = images, .x = &got});
            bif_vit_embed_backward_args args = {
                .dx = &dx, .images = images, .dpatches = &a, .dcls = cls ? &b : NULL, .dpos = &d, .has_cls = cls};
            bif_vit_embed_backward(device, &args);
            ref_close("x", got.data, x, images * rows * c, ref_stored(1e-5));
            ref_close("dpatches", a.data, dpatches, images * p * c, 0);
            ref_close("dcls", b.data, dcls, c, 1e-5);
            ref_close("dpos", d.data, dpos, rows * c, 1e-5);
            args.dpatches = NULL, args.dcls = NULL, args.dpos = NULL; /* all frozen */
            bif_vit_embed_backward(device, &args);
        }
        ref_done();
    }
}
