/* A device for the kernel tests that hands every op to a CUDA device, real or emulated, so that a test written once for host memory in
 * f32 checks that device too, in f32 and in bf16.
 *
 * BIFOCAL_TEST_DEVICE=cuda-f32 or cuda-bf16 asks for it (see ref.h). To ops.c and to the test it is a CPU device: tensors are f32 and lie
 * in host memory. Each op copies them to the CUDA device, calls the same bif_<op>() there, waits, and copies back what the op writes. With
 * cuda-bf16 all tensors whose dtype may be bf16 (kernels/ops.h) are bf16 there: rounded to the nearest even on the way in, widened on the
 * way out.
 *
 * What it checks by itself: an op writes nothing outside of its outputs (guard zones on the device, inputs unchanged), and what an op must
 * overwrite holds NaN before the call. Tensors whose op has 33, 65, 257, ... rows begin one element off a 16-byte boundary. With the
 * emulation, BIFOCAL_TEST_SCRATCH=bytes makes the device's scratch memory that small, so that ops work in pieces, and unwritten before
 * each op.
 *
 * A machine without a GPU: the program says "SKIPPED: no GPU" and ends with code 77 before the first test. */
#pragma once
#include "kernels/ops.h"

typedef enum { MIRROR_NONE = 0, MIRROR_F32, MIRROR_BF16 } mirror_mode;

/* What BIFOCAL_TEST_DEVICE asks for; anything but the two modes above, or nothing, ends the program. */
mirror_mode mirror_wanted(void);
/* True when the CUDA device is emulated: thousands of times slower. */
bool mirror_emulated(void);
/* The one mirror of this process, opened at the first call and kept. */
bif_device *mirror_device(void);

/* x rounded to the nearest bf16, ties to even. */
float mirror_round(float x);
