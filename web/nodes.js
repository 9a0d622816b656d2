// Sizes at which the nodes can be read, and in KSampler (DyWeight) the settings of the chosen file.
import { app } from "../../scripts/app.js"

const SIZES = {
    DyWeightKSampler: [340, 0],
    DyWeightLoadSolver: [340, 0],
    DyWeightApply: [270, 0],
    DyWeightSampler: [270, 0],
    DyWeightScheduler: [270, 0],
    DyWeightPlot: [440, 560],
    DyWeightFit: [400, 0],
    DyWeightPrompts: [400, 200],
}
let solvers = {}

function learn(definitions) {
    solvers = definitions.DyWeightKSampler?.input.required.solver_name[1].solvers ?? {}
}

function widget(node, name) {
    return node.widgets?.find((one) => one.name === name)
}

function label(one, more) {
    one.dyweight_label ??= one.label ?? one.name
    one.label = one.dyweight_label + more
}

/** Names the file's numbers of steps, and its cfg where the field has another. */
function mark(node) {
    const own = solvers[widget(node, "solver_name").value]
    const [steps, cfg] = [widget(node, "steps"), widget(node, "cfg")]
    const known = own && (own.steps.length > 4 ? `${own.steps[0]} … ${own.steps.at(-1)}` : own.steps.join(", "))
    const fits = !own || steps.value === 0 || own.steps.includes(steps.value)
    label(steps, !own ? "" : fits ? ` (${known})` : ` ≠ ${known}`)
    label(cfg, (own?.cfg ?? cfg.value) === cfg.value ? "" : ` ≠ ${own.cfg}`)
}

/** Takes over the settings of the chosen file. */
function take_over(node) {
    const own = solvers[widget(node, "solver_name").value]
    const [steps, cfg] = [widget(node, "steps"), widget(node, "cfg")]
    if (own && !own.steps.includes(steps.value)) steps.value = own.steps[Math.floor(own.steps.length / 2)]
    cfg.value = own?.cfg ?? cfg.value
    mark(node)
}

function after(one, then) {
    const { callback } = one
    one.callback = function (...values) {
        const result = callback?.apply(this, values)
        then()
        return result
    }
}

app.registerExtension({
    name: "DyWeight.Nodes",
    addCustomNodeDefs: learn,
    refreshComboInNodes: learn,
    nodeCreated(node) {
        const size = SIZES[node.comfyClass]
        if (!size) return
        node.setSize(size.map((pixels, side) => Math.max(pixels, node.size[side])))
        if (node.comfyClass !== "DyWeightKSampler") return
        after(widget(node, "solver_name"), () => take_over(node))
        for (const name of ["steps", "cfg"]) after(widget(node, name), () => mark(node))
        take_over(node)
    },
    loadedGraphNode(node) {
        if (node.comfyClass === "DyWeightKSampler") mark(node)
    },
})
