// SPDX-License-Identifier: Apache-2.0
// How shaders see tensors: what their code says of its bindings, and the descriptors for it.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vk.h"

// ---- SPIR-V: an instruction is its length and opcode in one word, then its operands

enum { OP_FUNCTION = 54, OP_VARIABLE = 59, OP_DECORATE = 71 };
enum { HEADER_WORDS = 5, DECORATION_BINDING = 33, UNIFORM_CONSTANT = 0 };

// The next declaration with that opcode from w on, or NULL: functions begin, or the code ends.
static const uint32_t *find(const struct l2d_shader *shader, const uint32_t *w, uint32_t opcode)
{
    const uint32_t *end = shader->code + shader->size_bytes / 4;
    for (; w < end && (*w & 0xffff) != OP_FUNCTION; w += *w >> 16)
        if ((*w & 0xffff) == opcode)
            return w;
    return NULL;
}

// Storage buffers have a storage class of their own; of what else has a binding we use only texels.
static bool is_texels(const struct l2d_shader *shader, uint32_t variable)
{
    const uint32_t *w = find(shader, shader->code + HEADER_WORDS, OP_VARIABLE);
    while (w && w[2] != variable)
        w = find(shader, w + (*w >> 16), OP_VARIABLE);
    return w && w[3] == UNIFORM_CONSTANT;
}

void l2d_operands_find_texels(const struct l2d_shader *shader, bool *texels, uint32_t count)
{
    memset(texels, 0, count * sizeof(*texels));
    const uint32_t *w = find(shader, shader->code + HEADER_WORDS, OP_DECORATE);
    for (; w; w = find(shader, w + (*w >> 16), OP_DECORATE))
        if (w[2] == DECORATION_BINDING && w[3] < count)
            texels[w[3]] |= is_texels(shader, w[1]);
}

// ---- descriptors

uint64_t l2d_operand_bytes(const struct l2d_tensor *t)
{
    return (l2d_tensor_bytes(t) + 3) & ~(uint64_t) 3;
}

int l2d_operands_create(struct l2d_operands *operands, struct l2d_gpu *gpu, uint32_t num_sets,
                        uint32_t num_operands, struct l2d_error *err)
{
    int rc = L2D_OK;
    if (!num_sets)
        return L2D_OK;
    VkDescriptorPoolSize size[] = {
        { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, num_operands },
        { VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, num_operands },
    };
    VK_TRY(vkCreateDescriptorPool(gpu->device, &(VkDescriptorPoolCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, .maxSets = num_sets,
        .poolSizeCount = gpu->caps.tier == L2D_TIER_0 ? 2 : 1, .pPoolSizes = size,
    }, NULL, &operands->pool));
    if (gpu->caps.tier == L2D_TIER_0 &&
        !(operands->view = calloc(num_operands, sizeof(*operands->view))))
        return l2d_error_set(err, L2D_ENOMEM, "%u operands: out of memory", num_operands);
fail:
    return rc;
}

void l2d_operands_destroy(struct l2d_operands *operands, struct l2d_gpu *gpu)
{
    vkDestroyDescriptorPool(gpu->device, operands->pool, NULL);
    for (uint32_t i = 0; i < operands->num_views; i++)
        vkDestroyBufferView(gpu->device, operands->view[i], NULL);
    free(operands->view);
    *operands = (struct l2d_operands) { 0 };
}

VkDescriptorType l2d_operand_descriptor(bool texels)
{
    return texels ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
}

// A texel is four numbers.
static uint64_t texel_bytes(const struct l2d_tensor *t)
{
    return 4 * l2d_dtype_bytes(t->dtype);
}

static uint64_t most_bytes(const struct l2d_gpu *gpu, const struct l2d_tensor *t, bool texels)
{
    uint64_t range = gpu->caps.max_range_bytes, most = gpu->caps.max_texels * texel_bytes(t);
    return texels && most < range ? most : range;
}

static int too_large(const char *label, const char *shader, uint64_t bytes, uint64_t most,
                     struct l2d_error *err)
{
    return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: %s: an operand of %.0f MiB is more than this "
                         "device binds (%.0f MiB); use a smaller --size or picture", label, shader,
                         (double) bytes / (1 << 20), (double) most / (1 << 20));
}

static int make_view(struct l2d_operands *operands, struct l2d_gpu *gpu,
                     const struct l2d_tensor *t, struct l2d_error *err)
{
    int rc = L2D_OK;
    VK_TRY(vkCreateBufferView(gpu->device, &(VkBufferViewCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO, .buffer = t->buf->vk->buffer,
        .format = t->dtype == L2D_F16 ? VK_FORMAT_R16G16B16A16_SFLOAT
                                      : VK_FORMAT_R32G32B32A32_SFLOAT,
        .offset = t->offset_bytes,
        .range = l2d_tensor_bytes(t) / texel_bytes(t) * texel_bytes(t),
    }, NULL, &operands->view[operands->num_views]));
    operands->num_views++;
fail:
    return rc;
}

int l2d_operands_bind(struct l2d_operands *operands, struct l2d_gpu *gpu,
                      const struct l2d_program *program, const struct l2d_binding *bind,
                      const char *label, VkDescriptorSet *set, struct l2d_error *err)
{
    int rc = L2D_OK;
    VK_TRY(vkAllocateDescriptorSets(gpu->device, &(VkDescriptorSetAllocateInfo) {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = operands->pool, .descriptorSetCount = 1,
        .pSetLayouts = &program->set_layout,
    }, set));
    VkDescriptorBufferInfo info[L2D_MAX_BINDINGS];
    VkWriteDescriptorSet write[L2D_MAX_BINDINGS];
    for (uint32_t i = 0; i < program->num_bind && rc == L2D_OK; i++) {
        const struct l2d_tensor *t = &bind[i].tensor;
        bool texels = program->texels[i];
        uint64_t bytes = l2d_operand_bytes(t), most = most_bytes(gpu, t, texels);
        assert(t->offset_bytes + l2d_tensor_bytes(t) <= t->buf->size_bytes);
        if (bytes > most)
            return too_large(label, program->shader, bytes, most, err);
        info[i] = (VkDescriptorBufferInfo) { t->buf->vk->buffer, t->offset_bytes, bytes };
        write[i] = (VkWriteDescriptorSet) {
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstSet = *set, .dstBinding = i, .descriptorCount = 1,
            .descriptorType = l2d_operand_descriptor(texels), .pBufferInfo = &info[i],
        };
        if (texels) {
            write[i].pTexelBufferView = &operands->view[operands->num_views];
            rc = make_view(operands, gpu, t, err);
        }
    }
    if (rc == L2D_OK)
        vkUpdateDescriptorSets(gpu->device, program->num_bind, write, 0, NULL);
fail:
    return rc;
}
