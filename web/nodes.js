// Sizes at which the nodes can be read, and in KSampler (DyWeight) the settings of the chosen file.
import { app } from "../../scripts/app.js"

const SIZES = {
    DyWeightKSampler: [340, 0],
    DyWeightLoadSolver: [340, 0],
    DyWeightApply: [270, 0],
    DyWeightSampler: [270, 0],
    DyWeightScheduler: [270, 0],
    DyWeightPlot: [440, 560],
}
let solvers = {}

function learn(definitions) {
    solvers = definitions.DyWeightKSampler?.input.required.solver_name[1].solvers ?? {}
}

function widget(node, name) {
    return node.widgets?.find((one) => one.name === name)
}

/** Names the file's cfg beside another one. */
function mark(node) {
    const cfg = widget(node, "cfg")
    const own = solvers[widget(node, "solver_name").value]?.cfg ?? cfg.value
    cfg.dyweight_label ??= cfg.label ?? cfg.name
    cfg.label = own === cfg.value ? cfg.dyweight_label : `${cfg.dyweight_label} ≠ ${own}`
}

/** Takes over the settings of the chosen file. */
function take_over(node) {
    const cfg = widget(node, "cfg")
    cfg.value = solvers[widget(node, "solver_name").value]?.cfg ?? cfg.value
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
        after(widget(node, "cfg"), () => mark(node))
        take_over(node)
    },
    loadedGraphNode(node) {
        if (node.comfyClass === "DyWeightKSampler") mark(node)
    },
})
