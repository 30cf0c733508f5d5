-- Neovim's own client against `ctrbuild lsp`: run by lsp.rs as `nvim --headless`. Prints one line of JSON.
local program, file = vim.env.CTRBUILD_PROGRAM, vim.env.CTRBUILD_RECIPE
vim.cmd("edit " .. vim.fn.fnameescape(file))
local buffer = vim.api.nvim_get_current_buf()
vim.bo[buffer].filetype = "dockerfile"
local id = vim.lsp.start_client({
  name = "ctrbuild",
  cmd = { program, "lsp" },
  root_dir = vim.fn.fnamemodify(file, ":h"),
})
vim.lsp.buf_attach_client(buffer, id)
local out = {}

local function until_true(what, condition)
  if not vim.wait(10000, condition, 20) then
    error("nothing came: " .. what)
  end
end

local function text()
  return table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, false), "\n")
end

local function at(line, column)
  vim.api.nvim_win_set_cursor(0, { line, column })
  return vim.lsp.util.make_position_params(0, vim.lsp.get_client_by_id(id).offset_encoding)
end

local function ask(method, params)
  local answers = vim.lsp.buf_request_sync(buffer, method, params, 10000) or {}
  return (answers[id] or {}).result
end

local ok, fault = pcall(function()
  until_true("findings", function()
    return #vim.diagnostic.get(buffer) > 0
  end)
  out.findings = vim.tbl_map(function(one)
    return one.code or one.user_data.lsp.code
  end, vim.diagnostic.get(buffer))
  out.hover = ask("textDocument/hover", at(3, 21)).contents.value
  out.completion = #ask("textDocument/completion", at(3, 21)).items
  out.definition = ask("textDocument/definition", at(3, 21)).range.start.line
  -- A repair, applied by the editor.
  local range = at(1, 14)
  local place = range.position
  local actions = ask("textDocument/codeAction", {
    textDocument = range.textDocument,
    range = { start = place, ["end"] = place },
    context = { diagnostics = {} },
  })
  for _, action in ipairs(actions) do
    if action.isPreferred then
      vim.lsp.util.apply_workspace_edit(action.edit, vim.lsp.get_client_by_id(id).offset_encoding)
    end
  end
  out.fixed = text()
  -- Typing: what the editor sends in pieces is understood.
  vim.api.nvim_buf_set_lines(buffer, -1, -1, false, { "RUM é😀" })
  until_true("the finding of what was typed", function()
    for _, one in ipairs(vim.diagnostic.get(buffer)) do
      if one.message:match("unknown instruction") then
        return true
      end
    end
    return false
  end)
  vim.api.nvim_buf_set_lines(buffer, -2, -1, false, { "copy   a   b" })
  at(2, 5)
  local before = text()
  vim.lsp.buf.rename("RELEASE")
  until_true("the new name", function()
    return text() ~= before
  end)
  out.renamed = text()
  local edits = ask("textDocument/formatting", vim.lsp.util.make_formatting_params({}))
  vim.lsp.util.apply_text_edits(edits, buffer, vim.lsp.get_client_by_id(id).offset_encoding)
  out.formatted = text()
end)
if not ok then
  out.fault = fault
end
io.stdout:write("RESULT " .. vim.json.encode(out) .. "\n")
vim.lsp.stop_client(id)
vim.wait(3000, function()
  return vim.lsp.client_is_stopped(id)
end, 20)
vim.cmd("qall!")
