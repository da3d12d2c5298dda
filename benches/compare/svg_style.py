"""The style of the charts: texts and shapes, in light and in dark mode."""

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .quiet { fill: #59636e; font-size: 11px }
  .head { font-weight: 600 }
  .ours { fill: #0969da }
  .peer { fill: #afb8c1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .peer { fill: #656c76 }
  }
"""
