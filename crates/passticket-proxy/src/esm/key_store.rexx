 say 'The key has' length(key) 'bytes.'
 bits = d2c(8 * length(key), 4)
 size = d2c(725, 4); token = copies('00'x, 725)
 call icsf 'CSNBKTB2', 'INTERNALHMAC    NO-KEY  MAC     GENERATE',,
   'zero none zero none zero none zero none zero none size token'
 size = d2c(725, 4); token = left(token, 725, '00'x)
 call icsf 'CSNBKPI2', 'HMAC    FIRST   MIN1PART',,
   'bits key size token'
 size = d2c(725, 4); token = left(token, 725, '00'x)
 call icsf 'CSNBKPI2', 'HMAC    COMPLETE', 'zero none size token'
 name = left(label, 64)
 call icsf 'CSNBKRC2', '', 'name size token'
 say 'The key is in the CKDS under the label' label
 exit 0
 /* Calls an ICSF service: name, rules, names of further variables. */
 icsf: parse arg service, rules, further
 code = d2c(99, 4); reason = zero; edata = ''
 count = d2c(length(rules) % 8, 4)
 address LINKPGM service 'code reason zero edata count rules' further
 if rc < 0 then call fail service 'is not in the link list'
 say service 'return code' c2d(code) 'reason code' c2d(reason)
 if c2d(reason) = 16036 then call fail 'the label exists'
 if c2d(code) > 4 then call fail service 'failed'
 return
 fail: parse arg text
 say 'PTKHMAC:' text
 exit 12
