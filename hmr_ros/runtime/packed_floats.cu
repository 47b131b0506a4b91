// SPDX-License-Identifier: Apache-2.0
//
// What a binary encoder computes of floats: its stem, and shortcuts that change the shape (bidrn
// sheet, section 2.3). Sums are in another order than on the processor, so they round otherwise.
//
// As in packed_kernel.cu, blocks are 32 x 8 threads, and a lane has outputs of its own.

#define TILE 8
#define LANES 32
#define THREADS (TILE * LANES)
// Taps of a side of the stem, and pixels of a side that 8 x 8 of its outputs see.
#define SIDE 7
#define REACH ((TILE - 1) * 2 + SIDE)
#define SEEN (REACH * REACH * 3)
#define TAPS (SIDE * SIDE * 3)

// Pixels and outputs of a block of a projection, and channels in shared memory at once.
#define ROWS (TILE * TILE)
#define SHARES 4
#define DEPTH 16

// Put what a tile of the stem sees into shared memory, colours side by side; zeros are outside.
static __device__ void stage_image(
    const float *image, int height, int width, int top, int left, float *seen)
{
    for (int i = threadIdx.y * LANES + threadIdx.x; i < SEEN; i += THREADS) {
        const int y = top + i / 3 / REACH, x = left + i / 3 % REACH;
        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
        seen[i] = inside ? image[((long long)(i % 3) * height + y) * width + x] : 0;
    }
}

// The grid: tiles of 8 x 8 outputs of a picture in x, groups of 32 channels in y, pictures in z.
// image (N, 3, height, width); weights (7 * 7 * 3, outputs); out (N, height / 2, width / 2,
// outputs).
extern "C" __global__ void __launch_bounds__(THREADS) stem_lines(
    const float *image, const float *weights, float *out, int height, int width, int outputs)
{
    __shared__ float seen[SEEN];
    __shared__ float taps[TAPS * LANES];
    const int tall = height / 2, wide = width / 2, across = (wide + TILE - 1) / TILE;
    const int first_y = blockIdx.x / across * TILE, first_x = blockIdx.x % across * TILE;
    const int y = first_y + threadIdx.y, output = blockIdx.y * LANES + threadIdx.x;
    stage_image(image + (long long)blockIdx.z * 3 * height * width, height, width,
                2 * first_y - SIDE / 2, 2 * first_x - SIDE / 2, seen);
    for (int tap = threadIdx.y; tap < TAPS; tap += TILE)
        taps[tap * LANES + threadIdx.x] = output < outputs ? weights[tap * outputs + output] : 0;
    __syncthreads();
    float sums[TILE] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int row = 0; row < SIDE; ++row)
        for (int i = 0; i < SIDE * 3; ++i) {
            const float weight = taps[(row * SIDE * 3 + i) * LANES + threadIdx.x];
            const float *first = seen + (threadIdx.y * 2 + row) * REACH * 3 + i;
#pragma unroll
            for (int pixel = 0; pixel < TILE; ++pixel)
                sums[pixel] = fmaf(first[pixel * 2 * 3], weight, sums[pixel]);
        }
    if (y >= tall || output >= outputs)
        return;
    const long long line = ((long long)blockIdx.z * tall + y) * wide;
#pragma unroll
    for (int pixel = 0; pixel < TILE; ++pixel)
        if (first_x + pixel < wide)
            out[(line + first_x + pixel) * outputs + output] = sums[pixel];
}

// Maxima of 3x3 pixels around every second one, with their bias, and their signs.
// The grid: eight pixels of a picture in x, words of 32 channels in y, pictures in z.
// lines (N, 2 height, 2 width, outputs); out (N, height, width, outputs), out_bits: words of it.
extern "C" __global__ void __launch_bounds__(THREADS) stem_pool(
    const float *lines, const float *bias, float *out, unsigned *out_bits, int height, int width,
    int outputs)
{
    const int pixel = blockIdx.x * TILE + threadIdx.y;
    const int output = blockIdx.y * LANES + threadIdx.x;
    if (pixel >= height * width)
        return;
    const int y = pixel / width, x = pixel % width;
    float most = -3.4e38f;
    for (int row = max(0, 2 * y - 1); row <= 2 * y + 1; ++row)
        for (int column = max(0, 2 * x - 1); column <= 2 * x + 1 && output < outputs; ++column) {
            const long long line = (long long)blockIdx.z * 2 * height + row;
            most = fmaxf(most, lines[(line * 2 * width + column) * outputs + output]);
        }
    const float found = output < outputs ? most + bias[output] : -1;
    const long long to = (long long)blockIdx.z * height * width + pixel;
    const unsigned signs = __ballot_sync(0xffffffff, found >= 0);
    if (threadIdx.x == 0)
        out_bits[to * gridDim.y + blockIdx.y] = signs;
    if (output < outputs)
        out[to * outputs + output] = found;
}

// The input of a projection: every stride-th pixel of a map, clipped.
struct Rows {
    const float *values;
    int count, height, width, channels, stride;  // of rows; of the map
};

static __device__ float at(const Rows &rows, int row, int channel)
{
    if (row >= rows.count || channel >= rows.channels)
        return 0;
    const int wide = rows.width / rows.stride, tall = rows.height / rows.stride;
    const int x = row % wide * rows.stride, y = row / wide % tall * rows.stride;
    const long long pixel = ((long long)(row / wide / tall) * rows.height + y) * rows.width + x;
    return fminf(fmaxf(rows.values[pixel * rows.channels + channel], -1.0f), 1.0f);
}

// Put DEPTH channels of 64 rows and of the weights of 128 outputs into shared memory.
static __device__ void stage_product(
    const Rows &rows, const float *weights, int outputs, int first, float *seen, float *taps)
{
    const int thread = threadIdx.y * LANES + threadIdx.x;
    for (int i = thread; i < ROWS * DEPTH; i += THREADS)
        seen[i] = at(rows, blockIdx.x * ROWS + i / DEPTH, first + i % DEPTH);
    for (int i = thread; i < DEPTH * SHARES * LANES; i += THREADS) {
        const int channel = first + i / (SHARES * LANES);
        const int output = blockIdx.y * SHARES * LANES + i % (SHARES * LANES);
        const bool inside = channel < rows.channels && output < outputs;
        taps[i] = inside ? weights[(long long)channel * outputs + output] : 0;
    }
}

static __device__ void multiply(const float *seen, const float *taps, float sums[TILE][SHARES])
{
    for (int channel = 0; channel < DEPTH; ++channel) {
        float weights[SHARES];
#pragma unroll
        for (int share = 0; share < SHARES; ++share)
            weights[share] = taps[(channel * SHARES + share) * LANES + threadIdx.x];
#pragma unroll
        for (int pixel = 0; pixel < TILE; ++pixel) {
            const float value = seen[(threadIdx.y * TILE + pixel) * DEPTH + channel];
#pragma unroll
            for (int share = 0; share < SHARES; ++share)
                sums[pixel][share] = fmaf(value, weights[share], sums[pixel][share]);
        }
    }
}

// The grid: 64 pixels of all pictures in x, 128 outputs in y.
// values (N, height, width, channels); weights (channels, outputs); out (count, outputs), rows of
// (N, height / stride, width / stride).
extern "C" __global__ void __launch_bounds__(THREADS) project(
    const float *values, const float *weights, float *out, int count, int height, int width,
    int channels, int stride, int outputs)
{
    __shared__ float seen[ROWS * DEPTH];
    __shared__ float taps[DEPTH * SHARES * LANES];
    const Rows rows = {values, count, height, width, channels, stride};
    float sums[TILE][SHARES] = {};
    for (int first = 0; first < channels; first += DEPTH) {
        __syncthreads();
        stage_product(rows, weights, outputs, first, seen, taps);
        __syncthreads();
        multiply(seen, taps, sums);
    }
#pragma unroll
    for (int pixel = 0; pixel < TILE; ++pixel)
#pragma unroll
        for (int share = 0; share < SHARES; ++share) {
            const long long row = blockIdx.x * ROWS + threadIdx.y * TILE + pixel;
            const int output = (blockIdx.y * SHARES + share) * LANES + threadIdx.x;
            if (row < count && output < outputs)
                out[row * outputs + output] = sums[pixel][share];
        }
}
