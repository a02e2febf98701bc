/* What the lanes of a warp do together: barriers, shuffles, votes, matrix instructions; and asynchronous copies. Each lane brings its
 * operands and waits; the last of the mask computes all lanes' results. */
#include <stdlib.h>
#include <string.h>

#include "emu_fiber.h"

const char *emu_op_name(emu_op op)
{
    static const char *const names[] = {"__syncwarp", "a shuffle", "a vote", "a reduction", "bif_mma", "bif_ldmatrix"};
    return names[op];
}

static float from_bf16(uint32_t half)
{
    const uint32_t bits = half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Fragments as in kernels/mma.cuh, g = lane / 4, t = lane % 4. in: a[0..4), b[4..6), c[6..10). */
static void do_mma(emu_fiber *lanes)
{
    float a[16][16], b[16][8], c[16][8];
    for (int l = 0; l < 32; l++) {
        const uint32_t *in = lanes[l].in;
        const int g = l / 4, t = l % 4;
        for (int half = 0; half < 2; half++) {
            for (int r = 0; r < 4; r++) {
                a[g + 8 * (r & 1)][2 * t + 8 * (r >> 1) + half] = from_bf16(half ? in[r] >> 16 : in[r] & 0xffffu);
            }
            for (int r = 0; r < 2; r++) {
                b[2 * t + 8 * r + half][g] = from_bf16(half ? in[4 + r] >> 16 : in[4 + r] & 0xffffu);
                memcpy(&c[g + 8 * r][2 * t + half], &in[6 + 2 * r + half], sizeof(float));
            }
        }
    }
    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < 16; k++) {
            for (int j = 0; j < 8; j++) {
                c[i][j] += a[i][k] * b[k][j];
            }
        }
    }
    for (int l = 0; l < 32; l++) {
        const int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; r++) {
            memcpy(&lanes[l].out[r], &c[g + 8 * (r >> 1)][2 * t + (r & 1)], sizeof(float));
        }
    }
}

/* in[0..4): the 16 bytes of the row this lane pointed at. */
static void do_ldmatrix(emu_fiber *lanes, bool transposed)
{
    for (int m = 0; m < 4; m++) {
        uint16_t matrix[8][8];
        for (int row = 0; row < 8; row++) {
            memcpy(matrix[row], lanes[8 * m + row].in, 16);
        }
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, t = l % 4;
            const uint32_t low = transposed ? matrix[2 * t][g] : matrix[g][2 * t];
            const uint32_t high = transposed ? matrix[2 * t + 1][g] : matrix[g][2 * t + 1];
            lanes[l].out[m] = low | high << 16;
        }
    }
}

static uint32_t combine(uint32_t x, uint32_t y, int op, bool is_signed)
{
    const bool less = is_signed ? (int32_t)x < (int32_t)y : x < y;
    switch (op) {
    case '+': return x + y;
    case '<': return less ? x : y;
    case '>': return less ? y : x;
    case '&': return x & y;
    default: return x | y;
    }
}

/* All lanes of self's mask have come. */
static void perform(emu_fiber *self, emu_fiber *lanes)
{
    const unsigned mask = self->mask;
    unsigned votes = 0;
    uint32_t sum = 0;
    bool first = true;
    for (int l = 0; l < 32; l++) {
        if ((mask >> l & 1u) == 0) {
            continue;
        }
        votes |= (lanes[l].in[0] & 1u) << l;
        sum = first ? lanes[l].in[0] : combine(sum, lanes[l].in[0], self->parameter & 255, self->parameter >> 8);
        first = false;
    }
    switch (self->op) {
    case WARP_SYNC: break;
    case WARP_MMA: do_mma(lanes); break;
    case WARP_LDMATRIX: do_ldmatrix(lanes, self->parameter != 0); break;
    case WARP_SHUFFLE:
        for (int l = 0; l < 32; l++) {
            if (mask >> l & 1u) {
                memcpy(lanes[l].out, lanes[lanes[l].parameter].in, 8);
            }
        }
        break;
    case WARP_BALLOT:
    case WARP_REDUCE:
        for (int l = 0; l < 32; l++) {
            if (mask >> l & 1u) {
                lanes[l].out[0] = self->op == WARP_BALLOT ? votes : sum;
            }
        }
        break;
    }
}

/* self->in and ->parameter are set; returns when ->out is. */
static void together(emu_fiber *self, emu_op op, unsigned mask, const char *file, int line)
{
    const int warp = self->thread >> 5, lane = self->thread & 31;
    emu_fiber *lanes = &emu_fibers[warp * 32];
    const int here = emu_block.threads - warp * 32;
    const unsigned exist = here >= 32 ? 0xffffffffu : (1u << here) - 1u;
    if ((mask >> lane & 1u) == 0) {
        emu_fault(NULL, "warp: %s is not in the mask 0x%08x of %s at %s:%d", emu_who(), mask, emu_op_name(op), file, line);
    }
    if (mask & ~exist) {
        emu_fault(NULL, "warp: %s: the mask 0x%08x of %s at %s:%d names lanes that the block of %d threads does not have", emu_who(), mask,
                  emu_op_name(op), file, line, emu_block.threads);
    }
    self->op = op;
    self->mask = mask;
    self->file = file;
    self->line = line;
    self->state = EMU_AT_WARP;
    emu_block.warp_waiting[warp] |= 1u << lane;
    if ((emu_block.warp_waiting[warp] & mask) != mask) {
        emu_wait(self);
        return;
    }
    for (int l = 0; l < 32; l++) {
        const emu_fiber *f = &lanes[l];
        if ((mask >> l & 1u) && (f->op != op || f->mask != mask || f->line != line || (f->file != file && strcmp(f->file, file) != 0))) {
            emu_fault(NULL,
                      "warp: the lanes of a warp diverge: thread %d waits in %s at %s:%d with the mask 0x%08x, %s comes to %s at %s:%d "
                      "with 0x%08x",
                      f->thread, emu_op_name(f->op), f->file, f->line, f->mask, emu_who(), emu_op_name(op), file, line, mask);
        }
    }
    perform(self, lanes);
    emu_block.warp_waiting[warp] &= ~mask;
    for (int l = 0; l < 32; l++) {
        if (mask >> l & 1u) {
            lanes[l].state = EMU_READY;
        }
    }
    if (mask == exist) { /* fewer lanes order themselves too; that is not followed, so a race may be reported where there is none */
        emu_memory_warp(warp);
    }
}

/* In host code a warp function is a bug of the caller. */
static emu_fiber *in_kernel(const char *what)
{
    if (emu_current == NULL) {
        emu_fault(NULL, "%s outside of a kernel", what);
    }
    return emu_current;
}

extern "C" void emu_warp_sync(unsigned mask, const char *file, int line)
{
    together(in_kernel("__syncwarp"), WARP_SYNC, mask, file, line);
}

extern "C" uint64_t emu_shuffle(unsigned mask, uint64_t value, int from, const char *file, int line)
{
    emu_fiber *self = in_kernel("a shuffle");
    if (from < 0 || from > 31 || (mask >> from & 1u) == 0) {
        emu_fault(NULL, "warp: %s reads lane %d in a shuffle at %s:%d, which its mask 0x%08x does not name", emu_who(), from, file, line,
                  mask);
    }
    memcpy(self->in, &value, sizeof value);
    self->parameter = from;
    together(self, WARP_SHUFFLE, mask, file, line);
    memcpy(&value, self->out, sizeof value);
    return value;
}

extern "C" unsigned emu_ballot(unsigned mask, int predicate, const char *file, int line)
{
    emu_fiber *self = in_kernel("a vote");
    self->in[0] = predicate != 0;
    together(self, WARP_BALLOT, mask, file, line);
    return self->out[0];
}

extern "C" uint32_t emu_reduce(unsigned mask, uint32_t value, int op, bool is_signed, const char *file, int line)
{
    emu_fiber *self = in_kernel("a reduction");
    self->in[0] = value;
    self->parameter = op | (int)is_signed << 8;
    together(self, WARP_REDUCE, mask, file, line);
    return self->out[0];
}

extern "C" void emu_mma(float *c, const uint32_t *a, const uint32_t *b, const char *file, int line)
{
    emu_fiber *self = in_kernel("bif_mma");
    memcpy(self->in, a, 16);
    memcpy(self->in + 4, b, 8);
    memcpy(self->in + 6, c, 16);
    together(self, WARP_MMA, 0xffffffffu, file, line);
    memcpy(c, self->out, 16);
}

extern "C" void emu_ldmatrix(uint32_t *r, const void *row, bool transposed, const char *file, int line)
{
    emu_fiber *self = in_kernel("bif_ldmatrix");
    const void *pc = __builtin_return_address(0);
    const char *bytes = (const char *)row, *shared = (const char *)emu_block.shared;
    if (bytes < shared || bytes >= shared + EMU_SHARED_MOST) {
        emu_fault(pc, "address: %s: bif_ldmatrix at %s:%d reads %p, which is not shared memory", emu_who(), file, line, row);
    }
    emu_memory_access(row, 16, EMU_READ, pc);
    memcpy(self->in, row, 16);
    self->parameter = transposed;
    together(self, WARP_LDMATRIX, 0xffffffffu, file, line);
    memcpy(r, self->out, 16);
}

/* ---- asynchronous copies ---- */

extern "C" void emu_copy_begin(void *shared, const void *from, int bytes)
{
    emu_fiber *self = in_kernel("bif_copy_16");
    const void *pc = __builtin_return_address(0);
    const char *to = (const char *)shared, *base = (const char *)emu_block.shared;
    if (to < base || to >= base + EMU_SHARED_MOST) {
        emu_fault(pc, "address: %s: bif_copy_16 writes %p, which is not shared memory", emu_who(), shared);
    }
    if (bytes < 0 || bytes > 16 || (uintptr_t)from % 16 != 0 || (uintptr_t)shared % 16 != 0) {
        emu_fault(pc, "address: %s: bif_copy_16 of %d bytes from %p to shared + %td; at most 16, both addresses multiples of 16", emu_who(),
                  bytes, from, to - base);
    }
    if (self->copy_count == self->copy_room) {
        self->copy_room = self->copy_room == 0 ? 64 : 2 * self->copy_room;
        self->copies = (emu_async_copy *)realloc(self->copies, (size_t)self->copy_room * sizeof *self->copies);
    }
    self->copies[self->copy_count++] = {shared, from, bytes, self->group, pc};
    emu_memory_access(shared, 16, EMU_WRITE, pc); /* from now on it may be overwritten at any time */
    emu_memory_in_flight(shared, 16);
}

extern "C" void emu_copy_group(void)
{
    in_kernel("bif_copy_group")->group++;
}

extern "C" void emu_copy_wait(int groups)
{
    emu_fiber *self = in_kernel("bif_copy_wait");
    int n = 0;
    while (n < self->copy_count && self->copies[n].group < self->group - groups) {
        const emu_async_copy *copy = &self->copies[n++];
        unsigned char bytes[16] = {0};
        if (copy->bytes > 0) {
            emu_memory_access(copy->from, (size_t)copy->bytes, EMU_READ, copy->pc);
            memcpy(bytes, copy->from, (size_t)copy->bytes);
        }
        emu_memory_access(copy->shared, 16, EMU_WRITE, copy->pc);
        memcpy(copy->shared, bytes, 16);
    }
    self->copy_count -= n;
    memmove(self->copies, self->copies + n, (size_t)self->copy_count * sizeof *self->copies);
}

/* ---- atomics ---- */

template <class T> static T arithmetic(T old, T value, T compare, int op)
{
    switch (op) {
    case '+': return (T)(old + value);
    case '<': return value < old ? value : old;
    case '>': return old < value ? value : old;
    case '?': return old == compare ? value : old;
    default: return value; /* '=' */
    }
}

template <class T> static T bitwise(T old, T value, int op)
{
    return op == '&' ? old & value : op == '|' ? old | value : old ^ value;
}

template <class T> static uint64_t atomic_of(void *at, int op, uint64_t value, uint64_t compare, T (*apply)(T, T, T, int))
{
    T old, v, c;
    memcpy(&old, at, sizeof old);
    memcpy(&v, &value, sizeof v);
    memcpy(&c, &compare, sizeof c);
    const T result = apply(old, v, c, op);
    memcpy(at, &result, sizeof result);
    uint64_t bits = 0;
    memcpy(&bits, &old, sizeof old);
    return bits;
}

template <class T> static T integer(T old, T value, T compare, int op)
{
    return op == '&' || op == '|' || op == '^' ? bitwise(old, value, op) : arithmetic(old, value, compare, op);
}

extern "C" uint64_t emu_atomic(void *at, int type, int op, uint64_t value, uint64_t compare)
{
    (void)in_kernel("an atomic");
    const size_t bytes = type == 'd' || type == 'l' ? 8 : 4;
    const void *pc = __builtin_return_address(0);
    if ((uintptr_t)at % bytes != 0) {
        emu_fault(pc, "address: %s: an atomic of %zu bytes at %p, which is not aligned", emu_who(), bytes, at);
    }
    emu_memory_access(at, bytes, EMU_ATOMIC, pc);
    switch (type) {
    case 'f': return atomic_of<float>(at, op, value, compare, arithmetic<float>);
    case 'd': return atomic_of<double>(at, op, value, compare, arithmetic<double>);
    case 'i': return atomic_of<int>(at, op, value, compare, integer<int>);
    case 'l': return atomic_of<unsigned long long>(at, op, value, compare, integer<unsigned long long>);
    default: return atomic_of<unsigned>(at, op, value, compare, integer<unsigned>);
    }
}
