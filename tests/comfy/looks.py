"""How a graph looks on the page: what is cut off, what covers what, what can be read."""

from tests.comfy.browser import ComfyPage


def narrow_titles(page: ComfyPage) -> list[str]:
    """Titles that the classic canvas cuts off."""
    script = """() => {
        const pen = document.createElement("canvas").getContext("2d")
        pen.font = `${LiteGraph.NODE_TEXT_SIZE ?? 14}px Inter, Arial`
        const room = node => node.size[0] - 2 * LiteGraph.NODE_TITLE_HEIGHT
        const cut = app.graph.nodes.filter(node => pen.measureText(node.title).width > room(node))
        return cut.map(node => node.title)
    }"""
    return list(page.page.evaluate(script))


def boxes(page: ComfyPage) -> list[tuple[str, float, float, float, float]]:
    """(title, left, top, width, height) of each node as it is drawn, its title and its pictures included."""
    script = """() => app.graph.nodes.map(node => {
        const drawn = document.querySelector(`[data-node-id="${node.id}"]`)?.getBoundingClientRect()
        if (drawn) return [node.title, drawn.x, drawn.y, drawn.width, drawn.height].map((n, i) =>
            i ? n / app.canvas.ds.scale : n)
        return [node.title, ...node.getBounding()]
    })"""
    return [tuple(box) for box in page.page.evaluate(script)]


def contrasts(page: ComfyPage) -> list[float]:
    """The contrast, 1 to 21, of the text of each note to what is behind it."""
    script = """() => {
        const numbers = colour => (colour.match(/[\\d.]+/g) ?? []).map(Number)
        const paper = element => {
            for (let one = element; one; one = one.parentElement) {
                const colour = getComputedStyle(one).backgroundColor
                if (numbers(colour)[3] !== 0) return colour
            }
        }
        const light = colour => {
            const [r, g, b] = numbers(colour).map(n => n / 255)
                .map(n => n <= 0.03928 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4)
            return 0.2126 * r + 0.7152 * g + 0.0722 * b
        }
        const hex = text => `rgb(${text.slice(1).replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3").match(/../g)
            .map(n => parseInt(n, 16)).join()})`
        const notes = app.graph.nodes.filter(node => node.type == "MarkdownNote")
        return notes.map(node => {
            const within = document.querySelector(`[data-node-id="${node.id}"]`) ?? node.widgets[0].element
            const text = within.querySelector("li, p")
            const behind = within === node.widgets[0].element ? hex(node.bgcolor) : paper(text)
            const [dark, bright] = [light(getComputedStyle(text).color), light(behind)].sort((a, b) => a - b)
            return (bright + 0.05) / (dark + 0.05)
        })
    }"""
    return list(page.page.evaluate(script))
