// How a call failed, as the official clients tell it.
export async function failure(call) {
  try {
    await call();
    return { class: null };
  } catch (error) {
    return {
      class: error.constructor.name,
      status: error.status ?? null,
      code: error.code ?? null,
      type: error.type ?? null,
      param: error.param ?? null,
    };
  }
}
